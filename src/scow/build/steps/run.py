"""RUN: a command in a container of its own over the step's snapshot.

The container is a task like any other, without a record: its network, files in /etc and mounts exist as long as it
does and leave nothing in the layer. Its output is streamed; when the build is cancelled it is killed.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scow.build import users
from scow.build.graph import RunOp, Step
from scow.build.options import BuildOptions, Limits
from scow.build.progress import Output, Sink
from scow.build.steps import mounts
from scow.build.steps.place import open_folder
from scow.build.steps.stubs import Stubs
from scow.build.workplace import Workplace
from scow.errors import Conflict, EngineError, InvalidArgument
from scow.linux import capabilities
from scow.networks import hosts
from scow.networks.endpoint import EndpointRequest
from scow.networks.sandbox import Sandbox
from scow.runtime.seccomp import default_program
from scow.tasks.attachment import Attachment
from scow.tasks.spec import DEFAULT_CAPABILITIES, default_spec, with_given
from scow.tasks.task import Task, TaskFailed
from scow.tasks.tasks import LaunchRequest

HOSTNAME = "buildkitsandbox"

#: Where a here-document with a shebang is put while it runs.
SCRIPTS = "/dev/pipes"

_RESOLV_CONF = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
_HEADER = 8
_KILL = 9


class CommandFailed(EngineError):
    """The command of a RUN ended with another code than 0, or could not be executed (126, 127)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


fingerprints = mounts.fingerprints


def network_of(op: RunOp, options: BuildOptions) -> str:
    """Which network the command is on: "none", "host", or a network's name."""
    if op.network != "default":
        return op.network
    if options.network in ("", "default", "bridge"):
        return "bridge"
    if options.network.startswith("container:"):
        raise InvalidArgument("a build cannot use the network of a container: give bridge, host, none or a network")
    return options.network


async def execute(work: Workplace, step: Step, op: RunOp, snapshot: str, chains: Mapping[int, str], sink: Sink) -> None:
    """Run the command in the active `snapshot`; the files it leaves are the step's result.

    Args:
        chains: step id → chain id of the stages and images its mounts show.

    Raises:
        CommandFailed: it ended with a code other than 0.
        TaskFailed: it could not be started.
    """
    async with mounts.opened(work, op, chains) as extra:
        root_fd = await asyncio.to_thread(work.snapshots.mount, snapshot)
        try:
            spec, stubs = await asyncio.to_thread(_prepare, work, op, snapshot, root_fd, extra)
            await _in_network(work, step, op, snapshot, root_fd, spec, sink)
            await asyncio.to_thread(stubs.clean)
        finally:
            os.close(root_fd)
        if not work.snapshots.merged:
            await asyncio.to_thread(stubs.tidy, work.snapshots.upper(snapshot))


async def _in_network(
    work: Workplace, step: Step, op: RunOp, key: str, root_fd: int, spec: dict[str, Any], sink: Sink
) -> None:
    network = network_of(op, work.options)
    own = network not in ("host", "none")
    wishes = {network: EndpointRequest(key, name=key[:63], hostname=HOSTNAME)} if own else {}
    sandbox = await work.networks.sandbox(key, host=network == "host", wishes=wishes)
    try:
        endpoint_address = ""
        for name, wish in wishes.items():
            endpoint_address = (await work.networks.connect(sandbox, name, wish)).ipv4
        files = _files(work, network, endpoint_address)
        if network == "host":
            kinds = spec["linux"]["namespaces"]
            spec["linux"]["namespaces"] = [kind for kind in kinds if kind["type"] != "network"]
        await _attached(work, step, op, key, root_fd, sandbox, spec, files, sink)
    finally:
        sandbox.close()
        await asyncio.shield(work.networks.release(key))


async def _attached(
    work: Workplace,
    step: Step,
    op: RunOp,
    key: str,
    root_fd: int,
    sandbox: Sandbox,
    spec: dict[str, Any],
    files: dict[str, bytes],
    sink: Sink,
) -> None:
    """Launch, stream the output, wait."""
    insecure = op.security == "insecure"
    filter_program = None if insecure else default_program(DEFAULT_CAPABILITIES)
    attachment = Attachment.open(stdout=True, stderr=True)
    task: Task | None = None
    try:
        request = LaunchRequest(
            key, spec, root_fd, sandbox.fd, seccomp=filter_program, attachments=(attachment,), files=files
        )
        task = await _launched(work, request)
        sandbox.close()
        await _stream(work, attachment, step, sink)
        status = await task.wait()
    finally:
        attachment.close()
        if task is not None:
            await asyncio.shield(stop(task))
    if status.code:
        text = _shown(op)
        why = ": it needed more memory than it may use" if status.oom_killed else ""
        raise CommandFailed(f"The command '{text}' returned a non-zero code: {status.code}{why}", status.code)


async def _launched(work: Workplace, request: LaunchRequest) -> Task:
    """Launch; a program that cannot be executed gives the code a shell would give."""
    try:
        return await work.tasks.launch(request)
    except TaskFailed as error:
        if error.stage == "exec":
            raise CommandFailed(str(error), 127 if error.errno == errno.ENOENT else 126) from None
        raise


def _shown(op: RunOp) -> str:
    if op.script:
        return f"{SCRIPTS}/{op.script[0]}"
    return " ".join(op.command)


async def _stream(work: Workplace, attachment: Attachment, step: Step, sink: Sink) -> None:
    """Cut the shim's frames apart: one byte stream number, three of zero, four of length, then the data."""
    waiting = bytearray()
    while data := await attachment.read():
        await work.pace()
        waiting += data
        while len(waiting) >= _HEADER:
            size = int.from_bytes(waiting[4:_HEADER], "big")
            if len(waiting) < _HEADER + size:
                break
            sink(Output(step, waiting[0], bytes(waiting[_HEADER : _HEADER + size])))
            del waiting[: _HEADER + size]


async def stop(task: Task) -> None:
    """Kill what still runs of a task and forget it."""
    with contextlib.suppress(Conflict):
        await task.kill(_KILL)
    await task.wait()
    await task.delete()


# ---- the spec ------------------------------------------------------------------------------------------


def _prepare(
    work: Workplace, op: RunOp, key: str, root_fd: int, extra: list[dict[str, Any]]
) -> tuple[dict[str, Any], Stubs]:
    """The OCI spec, and the mount points to clean up afterwards. Blocking: looks the user up in the image."""
    user = users.lookup(root_fd, op.user)
    if op.folder != "/":
        os.close(open_folder(root_fd, op.folder, (0, 0))[0])
    spec = spec_of(work.options, op, key, user)
    spec["mounts"] += extra
    if op.script:
        spec["mounts"].append(_script_mount(work, *op.script))
    targets = [str(mount["destination"]) for mount in spec["mounts"]]
    return spec, Stubs(root_fd, [*targets, "/etc/hosts", "/etc/resolv.conf"])


def _script_mount(work: Workplace, name: str, content: str) -> dict[str, Any]:
    folder = work.new_folder("script")
    folder.chmod(0o755)
    path = folder / name
    path.write_bytes(content.encode())
    path.chmod(0o755)
    return {"destination": SCRIPTS, "type": "bind", "source": str(folder), "options": ["bind", "rprivate", "ro"]}


def spec_of(options: BuildOptions, op: RunOp, key: str, user: users.User) -> dict[str, Any]:
    """The spec of a command's container, without the mounts that need files of this machine. Pure."""
    insecure = op.security == "insecure"
    environment = [*op.hidden, *op.environment]
    if not any(item.startswith("HOME=") for item in environment):
        environment.append(f"HOME={user.home}")
    command = [f"{SCRIPTS}/{op.script[0]}"] if op.script else list(op.command)
    spec = default_spec(
        args=command,
        cgroup=f"/scow/{key}",
        env=environment,
        cwd=op.folder,
        user={"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        hostname=HOSTNAME,
        privileged=insecure,
        capabilities=capabilities.available() if insecure else None,
        shm_size=options.limits.shm_size,
    )
    spec["linux"]["resources"].update(resources(options.limits))
    if options.limits.ulimits:
        given = [
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
            for name, soft, hard in options.limits.ulimits
        ]
        spec["process"]["rlimits"] = with_given(given)
    return spec


def resources(limits: Limits) -> dict[str, Any]:
    """Limits as OCI ``linux.resources``. Pure."""
    found: dict[str, Any] = {}
    memory = {"limit": limits.memory, "swap": limits.memory_swap}
    cpu = {
        "shares": limits.cpu_shares,
        "period": limits.cpu_period,
        "quota": limits.cpu_quota,
        "cpus": limits.cpuset_cpus,
        "mems": limits.cpuset_mems,
    }
    for name, values in (("memory", memory), ("cpu", cpu)):
        given = {key: value for key, value in values.items() if value}
        if given:
            found[name] = given
    return found


def _files(work: Workplace, network: str, address: str) -> dict[str, bytes]:
    """The small files bound over the image's."""
    embedded = network not in ("host", "none", "bridge") and work.networks.get(network).has_names
    files = {
        "/etc/hosts": hosts.hosts_file(
            HOSTNAME,
            addresses=[address] if address else [],
            extra_hosts=work.options.extra_hosts,
            host_gateway=work.networks.host_gateway(),
        ),
        "/etc/resolv.conf": hosts.resolv_conf(_host_resolver(), embedded=embedded, shared=network == "host"),
    }
    return files


def _host_resolver() -> str:
    for path in _RESOLV_CONF:
        try:
            return Path(path).read_text(errors="replace")
        except OSError:
            continue
    return ""
