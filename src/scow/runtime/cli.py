"""``scow-runtime``: the OCI command line, so that other engines and conformance tools can drive this runtime.

Arguments as of runc, whose command line is the one engines speak. Errors go to stderr (and to ``--log`` in its format)
as one sentence, exit code 1. The program first starts itself anew from a read-only mount of the interpreter, for what a
container gets hold of must not be writable.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any

from scow.errors import EngineError
from scow.linux.capabilities import NAMES
from scow.linux.constants import PR_SET_DUMPABLE
from scow.linux.mount import MOUNT_ATTR_RDONLY, clone_tree, mount_setattr
from scow.linux.namespaces import KINDS
from scow.linux.proc import prctl
from scow.runtime import commands
from scow.runtime.bundle import example
from scow.runtime.rootfs import OPTIONS
from scow.runtime.state import DEFAULT_ROOT, Container, identifiers

_RESTARTED = "SCOW_RUNTIME_RESTARTED"
_START = "import sys; sys.path.insert(0, {folder!r}); from scow.runtime.cli import main; sys.exit(main())"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="scow-runtime", description="Run OCI bundles.")
    top.add_argument("--root", default=DEFAULT_ROOT, help="where containers are recorded")
    top.add_argument("--log", help="append errors to this file")
    top.add_argument("--log-format", choices=["text", "json"], default="text")
    top.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    top.add_argument("--systemd-cgroup", action="store_true", help=argparse.SUPPRESS)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, text in (("create", "make a container"), ("run", "make and start a container, and wait for it")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("-b", "--bundle", default=".")
        verb.add_argument("--console-socket")
        verb.add_argument("--pid-file")
        verb.add_argument("--no-pivot", action="store_true", help=argparse.SUPPRESS)
        verb.add_argument("--no-new-keyring", action="store_true", help=argparse.SUPPRESS)
        verb.add_argument("id")
        if name == "run":
            verb.add_argument("-d", "--detach", action="store_true")
    for name, text in (
        ("start", "start a created container"),
        ("state", "print a container's state"),
        ("pause", "freeze a container"),
        ("resume", "thaw a container"),
    ):
        verbs.add_parser(name, help=text).add_argument("id")
    _more(verbs)
    return top


def _more(verbs: Any) -> None:
    kill = verbs.add_parser("kill", help="signal a container")
    kill.add_argument("-a", "--all", action="store_true")
    kill.add_argument("id")
    kill.add_argument("signal", nargs="?", default="TERM")
    delete = verbs.add_parser("delete", help="remove a container")
    delete.add_argument("-f", "--force", action="store_true")
    delete.add_argument("id")
    execute = verbs.add_parser("exec", help="run one more process in a container")
    execute.add_argument("-p", "--process")
    execute.add_argument("-t", "--tty", action="store_true")
    execute.add_argument("-d", "--detach", action="store_true")
    execute.add_argument("--cwd")
    execute.add_argument("-e", "--env", action="append", default=[])
    execute.add_argument("-u", "--user")
    execute.add_argument("--console-socket")
    execute.add_argument("--pid-file")
    execute.add_argument("id")
    execute.add_argument("args", nargs=argparse.REMAINDER)
    spec = verbs.add_parser("spec", help="write a config.json to begin with")
    spec.add_argument("-b", "--bundle", default=".")
    ps = verbs.add_parser("ps", help="list a container's processes")
    ps.add_argument("-f", "--format", choices=["table", "json"], default="table")
    ps.add_argument("id")
    listed = verbs.add_parser("list", help="list containers")
    listed.add_argument("-f", "--format", choices=["table", "json"], default="table")
    listed.add_argument("-q", "--quiet", action="store_true")
    update = verbs.add_parser("update", help="change a container's limits")
    update.add_argument("-r", "--resources", required=True, help="a file with OCI linux.resources, or -")
    update.add_argument("id")
    verbs.add_parser("features", help="print what this runtime can do")


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    given = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(given)
    _restart(given)
    prctl(PR_SET_DUMPABLE, 0)
    try:
        return _obey(args)
    except (EngineError, OSError) as error:
        _complain(args, str(error))
        return 1


def _restart(given: list[str]) -> None:
    """Become the same program from a read-only mount (CVE-2019-5736); where that cannot be had, go on as it is."""
    if os.environ.pop(_RESTARTED, None):
        return
    interpreter = os.path.realpath(sys.executable)
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        fd = clone_tree(interpreter)
        mount_setattr(fd, add=MOUNT_ATTR_RDONLY)
    except OSError:
        return
    script = _START.format(folder=folder)
    arguments = [interpreter, "-I", "-S", "-X", "utf8", "-c", script, *given]
    os.execve(f"/proc/self/fd/{fd}", arguments, {**os.environ, _RESTARTED: "1"})


def _obey(args: argparse.Namespace) -> int:
    root, verb = args.root, args.verb
    if verb == "create":
        started = commands.create(root, args.id, args.bundle, args.console_socket)
        commands.write_pid(args.pid_file, started.pid)
    elif verb == "run":
        return commands.run(root, args.id, args.bundle, args.console_socket, args.detach, args.pid_file)
    elif verb == "start":
        commands.start(root, args.id)
    elif verb == "state":
        print(json.dumps(commands.state(Container.find(root, args.id)), indent=2))
    elif verb == "kill":
        commands.kill(root, args.id, signal_number(args.signal), args.all)
    elif verb == "delete":
        commands.delete(root, args.id, args.force)
    elif verb == "exec":
        container = Container.find(root, args.id)
        process = _process(args, container.spec()["process"])
        return commands.execute(root, args.id, process, args.console_socket, args.detach, args.pid_file)
    elif verb in ("pause", "resume"):
        commands.pause(root, args.id, verb == "pause")
    elif verb == "update":
        commands.update(root, args.id, commands.read_resources(args.resources))
    elif verb == "spec":
        _write_spec(args.bundle)
    elif verb == "features":
        print(json.dumps(features(), indent=2))
    elif verb == "ps":
        _print_processes(Container.find(root, args.id).cgroup().pids(), args.format)
    else:
        _print_containers(root, args)
    return 0


def signal_number(text: str) -> int:
    """ "9", "KILL", "SIGKILL" → 9.

    Raises:
        EngineError: no such signal.
    """
    if text.isdigit() and int(text) in signal.valid_signals():
        return int(text)
    name = text.upper().removeprefix("SIG")
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        raise EngineError(f"unknown signal {text!r}") from None


def _process(args: argparse.Namespace, first: dict[str, Any]) -> dict[str, Any]:
    """The OCI "process" for exec: from a file, or the container's own with changes."""
    if args.process:
        with open(args.process) as file:
            process: dict[str, Any] = json.load(file)
        return process
    given = args.args[1:] if args.args[:1] == ["--"] else args.args
    process = {**first, "args": given, "terminal": args.tty, "env": [*(first.get("env") or []), *args.env]}
    if args.cwd:
        process["cwd"] = args.cwd
    if args.user:
        uid, _, gid = args.user.partition(":")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    return process


def _write_spec(bundle: str) -> None:
    with open(f"{bundle}/config.json", "x") as file:
        json.dump(example(), file, indent=4)
        file.write("\n")


def _print_processes(pids: list[int], how: str) -> None:
    if how == "json":
        print(json.dumps(pids))
        return
    print("PID")
    for pid in pids:
        print(pid)


def _print_containers(root: str, args: argparse.Namespace) -> None:
    found = [commands.state(Container.find(root, name)) for name in identifiers(root)]
    if args.quiet:
        print("\n".join(each["id"] for each in found))
    elif args.format == "json":
        print(json.dumps(found))
    else:
        for each in [{"id": "ID", "pid": "PID", "status": "STATUS", "bundle": "BUNDLE"}, *found]:
            print(f"{each['id']:<24} {each['pid']:<10} {each['status']:<10} {each['bundle']}")


def features() -> dict[str, Any]:
    """What this runtime can do, runtime-spec features.md."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted(OPTIONS),
        "linux": {
            "namespaces": sorted(set(KINDS) - {"user", "time"}),
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {"enabled": True},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
        },
    }


def _complain(args: argparse.Namespace, text: str) -> None:
    print(f"scow-runtime: {text}", file=sys.stderr)
    if args.log:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with open(args.log, "a") as file:
            if args.log_format == "json":
                file.write(json.dumps({"level": "error", "msg": text, "time": now}) + "\n")
            else:
                file.write(f'time="{now}" level=error msg={json.dumps(text)}\n')
