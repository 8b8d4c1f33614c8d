"""What a pure cgroup v2 host with Debian's stock kernel has to show; runs in the guest, one check after another.

Prints ``ok NAME SECONDS`` or ``FAIL NAME SECONDS: why`` for each, with the details before it.
"""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from engine import IMAGE, Engine, expect, same, text, until

from scow.linux.nftables import Nft
from scow.snapshots.overlay import OverlaySnapshotter

Check = Callable[["Engine"], None]
CHECKS: list[Check] = []

CGROUPS = "/sys/fs/cgroup"
MEBIBYTE = 1 << 20


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def group(engine: Engine, identity: str, file: str) -> str:
    """A file of the container's group, found the way the kernel tells it."""
    pid = engine.inspect(identity)["State"]["Pid"]
    return text(f"{CGROUPS}{text(f'/proc/{pid}/cgroup').removeprefix('0::')}/{file}")


# ── the engine, one image, one container ────────────────────────────────────────────────────────────────────────────


@check
def the_daemon_starts_in_the_root_group(engine: Engine) -> None:
    same(text("/proc/self/cgroup"), "0::/")
    same(text(f"{CGROUPS}/cgroup.subtree_control"), "", "controllers passed on before")
    engine.start()
    info = engine.json("GET", "/info")
    same((info["CgroupVersion"], info["CgroupDriver"]), ("2", "cgroupfs"))
    for name in ("MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"):
        expect(info[name], name, "is not offered")
    same(info["Warnings"] or [], [], "warnings")
    same(info["Driver"], "overlay2")


@check
def an_image_is_bootstrapped_and_run_by_the_command_line(engine: Engine) -> None:
    engine.scow("image", "bootstrap", IMAGE)
    same(engine.scow("run", "--rm", IMAGE, "echo", "hello"), "hello\n")
    engine.scow("run", "--rm", IMAGE, "sh", "-c", "exit 7", status=7)


@check
def controllers_are_passed_on_to_the_group(engine: Engine) -> None:
    with engine.running() as identity:
        found = set(group(engine, identity, "cgroup.controllers").split())
        expect({"cpuset", "cpu", "io", "memory", "pids"} <= found, "only", found)


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@check
def memory_is_limited_and_running_out_is_told(engine: Engine) -> None:
    host = {"Memory": 24 * MEBIBYTE, "MemorySwap": 32 * MEBIBYTE, "MemoryReservation": 8 * MEBIBYTE}
    with engine.running(host=host) as identity:
        same(group(engine, identity, "memory.max"), str(24 * MEBIBYTE))
        same(group(engine, identity, "memory.swap.max"), str(8 * MEBIBYTE))
        same(group(engine, identity, "memory.low"), str(8 * MEBIBYTE))
    identity = engine.create("tail", "/dev/zero", host={"Memory": 16 * MEBIBYTE, "MemorySwap": 16 * MEBIBYTE})
    engine.call("POST", f"/containers/{identity}/start")
    same(engine.wait(identity), 137, "exit status")
    state = engine.inspect(identity)["State"]
    same((state["OOMKilled"], state["ExitCode"], state["Status"]), (True, 137, "exited"))
    events = engine.call("GET", "/events", since=1, until=int(time.time()) + 1, filters='{"event":["oom"]}')
    same([json.loads(line)["Actor"]["ID"] for line in events.splitlines()], [identity], "oom events")
    engine.remove(identity)


@check
def a_child_that_runs_out_of_memory_leaves_the_container_running(engine: Engine) -> None:
    host = {"Memory": 16 * MEBIBYTE, "MemorySwap": 16 * MEBIBYTE}
    script = "tail /dev/zero; echo ended $?; exec sleep 600"
    with engine.running("sh", "-c", script, host=host) as identity:
        until(lambda: engine.inspect(identity)["State"]["OOMKilled"], "nobody tells of it")
        same(engine.inspect(identity)["State"]["Status"], "running")
        until(lambda: "ended 137" in engine.output(identity), "it does not go on")
        for _ in range(3):  # at its limit, and nobody is killed: no event
            engine.execute(identity, "cat", "/bin/busybox")
        same(actions(engine, identity).count("oom"), 1, "oom events")
        engine.call("POST", f"/containers/{identity}/kill")
        same(engine.wait(identity), 137)
        same(actions(engine, identity).count("oom"), 1, "oom events after its end")
        same(engine.inspect(identity)["State"]["OOMKilled"], True)


def actions(engine: Engine, identity: str) -> list[str]:
    """What has been told about the container."""
    filters = json.dumps({"container": [identity]})
    told = engine.call("GET", "/events", since=1, until=int(time.time()) + 1, filters=filters)
    return [json.loads(line)["Action"] for line in told.splitlines()]


@check
def what_v2_lacks_is_told(engine: Engine) -> None:
    host = {"MemorySwappiness": 10, "OomKillDisable": True, "Memory": 32 * MEBIBYTE}
    made = engine.json("POST", "/containers/create", {"Image": IMAGE, "HostConfig": host})
    same([text.split(".")[0] for text in made["Warnings"]], [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted",
        "Your kernel does not support OomKillDisable",
    ])  # fmt: skip
    engine.remove(made["Id"])
    body = {"Image": IMAGE, "HostConfig": {"CpuRealtimeRuntime": 10_000}}
    told = json.loads(engine.call("POST", "/containers/create", body, status=(400,)))["message"]
    same(told, "Your kernel does not support CPU real-time scheduler")


@check
def disks_are_throttled_and_weighed(engine: Engine) -> None:
    disk = "/dev/loop0"
    number = os.stat(disk).st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    host = {
        "BlkioWeight": 300,
        "BlkioDeviceReadBps": [{"Path": disk, "Rate": 1 << 20}],
        "BlkioDeviceWriteIOps": [{"Path": disk, "Rate": 100}],
    }
    with engine.running(host=host) as identity:
        same(group(engine, identity, "io.max"), f"{device} rbps={1 << 20} wbps=max riops=max wiops=100")
        weights = [
            group(engine, identity, name) for name in ("io.bfq.weight", "io.weight") if has(engine, identity, name)
        ]
        expect(weights and any("default 300" in text or "default 2930" in text for text in weights), weights)
        change = {
            "BlkioDeviceReadBps": [{"Path": disk, "Rate": 0}],
            "BlkioDeviceWriteBps": [{"Path": disk, "Rate": 5000}],
        }
        engine.call("POST", f"/containers/{identity}/update", change)
        same(group(engine, identity, "io.max"), f"{device} rbps=max wbps=5000 riops=max wiops=100")


def has(engine: Engine, identity: str, name: str) -> bool:
    """Whether the container's group has a file of that name."""
    try:
        group(engine, identity, name)
    except FileNotFoundError:
        return False
    return True


@check
def processor_time_is_limited(engine: Engine) -> None:
    with engine.running(
        "sh", "-c", "while :; do :; done", host={"NanoCpus": 250_000_000, "CpuShares": 512}
    ) as identity:
        same(group(engine, identity, "cpu.max"), "25000 100000")
        expect(1 < int(group(engine, identity, "cpu.weight")) < 100, "weight", group(engine, identity, "cpu.weight"))
        until(lambda: "nr_throttled 0\n" not in group(engine, identity, "cpu.stat"), "it is never throttled")
    with engine.running(host={"CpuPeriod": 50_000, "CpuQuota": 20_000}) as identity:
        same(group(engine, identity, "cpu.max"), "20000 50000")


@check
def processors_are_chosen(engine: Engine) -> None:
    script = "nproc; grep Cpus_allowed_list /proc/self/status"
    status, output = engine.run("sh", "-c", script, host={"CpusetCpus": "1", "CpusetMems": "0"})
    same((status, output.split()), (0, ["1", "Cpus_allowed_list:", "1"]))


@check
def a_fork_bomb_is_bounded(engine: Engine) -> None:
    with engine.running("sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 600", host={"PidsLimit": 20}) as identity:
        same(group(engine, identity, "pids.max"), "20")
        until(lambda: group(engine, identity, "pids.events") != "max 0", "the limit is never reached")
        expect(int(group(engine, identity, "pids.current")) <= 20, group(engine, identity, "pids.current"))


@check
def devices_are_guarded_by_a_program_of_the_kernel(engine: Engine) -> None:
    script = "mknod /tmp/kmsg c 1 11 && echo made; true < /tmp/kmsg && echo opened; echo x > /dev/null && echo null"
    status, output = engine.run("sh", "-c", script)
    expect("made" in output and "null" in output and "opened" not in output, status, output)
    expect("Operation not permitted" in output, output)
    device = {"PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}
    script = "true < /dev/mine && echo read; true > /dev/mine || echo denied"
    status, output = engine.run("sh", "-c", script, host={"Devices": [device]})
    expect("read" in output and "denied" in output, status, output)
    script = "mknod /tmp/mine c 10 237; true < /tmp/mine && echo opened"
    expect("opened" not in engine.run("sh", "-c", script)[1], "opened without a rule")
    same(engine.run("sh", "-c", script, host={"DeviceCgroupRules": ["c 10:* rmw"]})[1], "opened\n")
    same(engine.run("sh", "-c", script, host={"Privileged": True})[1], "opened\n")


@check
def limits_change_while_it_runs(engine: Engine) -> None:
    with engine.running(host={"Memory": 32 * MEBIBYTE, "MemorySwap": 32 * MEBIBYTE}) as identity:
        change = {"Memory": 64 * MEBIBYTE, "MemorySwap": 96 * MEBIBYTE, "NanoCpus": 500_000_000, "PidsLimit": 33}
        change |= {"CpusetCpus": "0", "CpuShares": 2048}
        answer = engine.json("POST", f"/containers/{identity}/update", change)
        same(answer["Warnings"] or [], [], "warnings")
        same(group(engine, identity, "memory.max"), str(64 * MEBIBYTE))
        same(group(engine, identity, "memory.swap.max"), str(32 * MEBIBYTE))
        same(group(engine, identity, "cpu.max"), "50000 100000")
        same(group(engine, identity, "pids.max"), "33")
        same(group(engine, identity, "cpuset.cpus"), "0")
        expect(int(group(engine, identity, "cpu.weight")) > 100, group(engine, identity, "cpu.weight"))
        engine.call("POST", f"/containers/{identity}/update", {"Memory": 48 * MEBIBYTE, "MemorySwap": -1})
        same(group(engine, identity, "memory.max"), str(48 * MEBIBYTE))
        same(group(engine, identity, "memory.swap.max"), "max")
        engine.call("POST", f"/containers/{identity}/update", {"CpusetCpus": "7"}, status=(400,))


# ── freezer, numbers, exec ──────────────────────────────────────────────────────────────────────────────────────────


@check
def it_pauses_and_goes_on(engine: Engine) -> None:
    with engine.running("sh", "-c", "while :; do :; done") as identity:
        engine.call("POST", f"/containers/{identity}/pause")
        same(engine.inspect(identity)["State"]["Status"], "paused")
        same(group(engine, identity, "cgroup.freeze"), "1")
        expect("frozen 1" in group(engine, identity, "cgroup.events"), group(engine, identity, "cgroup.events"))
        before = group(engine, identity, "cpu.stat").splitlines()[0]
        engine.call("POST", f"/containers/{identity}/exec", {"Cmd": ["true"]}, status=(409,))
        same(group(engine, identity, "cpu.stat").splitlines()[0], before, "time used while paused")
        engine.call("POST", f"/containers/{identity}/unpause")
        same(engine.inspect(identity)["State"]["Status"], "running")
        expect("frozen 0" in group(engine, identity, "cgroup.events"), group(engine, identity, "cgroup.events"))
        same(engine.execute(identity, "echo", "again"), (0, "again\n"))
        engine.call("POST", f"/containers/{identity}/pause")
        engine.call("POST", f"/containers/{identity}/kill")
        same(engine.wait(identity), 137, "exit status of one killed while paused")
    for verb in ("kill", "stop"):
        with engine.running() as identity:  # frozen by somebody else
            path = text(f"/proc/{engine.inspect(identity)['State']['Pid']}/cgroup").removeprefix("0::")
            with open(f"{CGROUPS}{path}/cgroup.freeze", "w") as file:
                file.write("1")
            engine.call("POST", f"/containers/{identity}/{verb}", **({"t": 1} if verb == "stop" else {}))
            same(engine.wait(identity), 137, f"exit status after {verb}")


@check
def its_numbers_are_sane(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 600 & sleep 600; true"
    with engine.running("sh", "-c", script, host={"Memory": 64 * MEBIBYTE, "PidsLimit": 50}) as identity:
        until(lambda: group(engine, identity, "pids.current") == "3", "its children do not start")
        found = engine.json("GET", f"/containers/{identity}/stats", stream=0, **{"one-shot": 1})
        same(found["pids_stats"], {"current": 3, "limit": 50})
        memory, processor = found["memory_stats"], found["cpu_stats"]
        expect(100_000 < memory["usage"] < 64 * MEBIBYTE, memory)
        same(memory["limit"], 64 * MEBIBYTE)
        expect(memory["stats"]["anon"] > 0 and "inactive_file" in memory["stats"], memory)
        total = processor["cpu_usage"]["total_usage"]
        expect(10_000_000 < total < 60e9, processor)
        expect(total < processor["system_cpu_usage"], processor)
        same(processor["online_cpus"], 2)
        expect("eth0" in found["networks"], found["networks"])
        print("   scow stats:", engine.scow("stats", "--no-stream", identity).splitlines()[-1])


@check
def an_exec_joins_the_group(engine: Engine) -> None:
    with engine.running(host={"PidsLimit": 10}) as identity:
        same(engine.execute(identity, "cat", "/proc/self/cgroup"), (0, "0::/\n"))
        same(engine.execute(identity, "cat", "/sys/fs/cgroup/pids.current")[1], "2\n")
        status, told = engine.execute(identity, "sh", "-c", "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done")
        expect(status and "fork" in told, status, told)


@check
def it_sees_its_own_group_and_cannot_write_it(engine: Engine) -> None:
    script = (
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cgroup.procs; "
        "mkdir /sys/fs/cgroup/x; echo max > /sys/fs/cgroup/memory.max; grep ' /sys/fs/cgroup ' /proc/mounts"
    )
    _status, output = engine.run("sh", "-c", script, host={"Memory": 32 * MEBIBYTE})
    lines = output.splitlines()
    same(lines[:3], ["0::/", str(32 * MEBIBYTE), "1"])
    same(output.count("Read-only file system"), 2, output)
    expect(lines[-1].startswith("cgroup /sys/fs/cgroup cgroup2 ro,"), lines[-1])
    _status, output = engine.run("cat", "/proc/self/cgroup", host={"CgroupnsMode": "host"})
    expect(output.startswith("0::/scow/"), output)
    _status, output = engine.run("cat", "/proc/self/cgroup", host={"CgroupParent": "/mine/own", "CgroupnsMode": "host"})
    expect(output.startswith("0::/mine/own/"), output)


@check
def a_service_manager_inside_may_divide_its_group(engine: Engine) -> None:
    script = (
        "mkdir /sys/fs/cgroup/init /sys/fs/cgroup/work && echo 1 > /sys/fs/cgroup/init/cgroup.procs && "
        "echo '+memory +pids' > /sys/fs/cgroup/cgroup.subtree_control && echo 64M > /sys/fs/cgroup/work/memory.max && "
        "echo divided && exec sleep 600"
    )
    for host in ({"Privileged": True}, {"SecurityOpt": ["writable-cgroups=true"]}):
        with engine.running("sh", "-c", script, host=host) as identity:
            until(lambda: "divided" in engine.output(identity), "it does not divide its group")
            same(engine.execute(identity, "cat", "/proc/self/cgroup"), (0, "0::/init\n"))
            same(engine.execute(identity, "cat", "/sys/fs/cgroup/work/memory.max"), (0, f"{64 * MEBIBYTE}\n"))
            engine.call("POST", f"/containers/{identity}/pause")
            engine.call("POST", f"/containers/{identity}/unpause")
            top = engine.json("GET", f"/containers/{identity}/top")
            same([row[-1] for row in top["Processes"]], ["sleep 600"], "top")


@check
def its_processes_are_bound_as_everywhere(engine: Engine) -> None:
    status, output = engine.run("grep", "-E", "^(CapEff|CapBnd|Seccomp|NoNewPrivs):", "/proc/self/status")
    found = dict(line.split() for line in output.splitlines())
    wanted = {"CapEff:": "00000000a80425fb", "CapBnd:": "00000000a80425fb", "Seccomp:": "2", "NoNewPrivs:": "0"}
    same((status, found), (0, wanted))
    status, output = engine.run("unshare", "-m", "true")
    expect(status and "not permitted" in output, status, output)


# ── networks, layers ────────────────────────────────────────────────────────────────────────────────────────────────


@check
def a_published_port_answers_on_loopback(engine: Engine) -> None:
    host = {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}}
    script = "echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    with engine.running("sh", "-c", script, host=host, ExposedPorts={"80/tcp": {}}) as identity:
        address = engine.inspect(identity)["NetworkSettings"]["Networks"]["bridge"]
        for place in ("127.0.0.1:8080", f"{address['IPAddress']}:80", f"{address['Gateway']}:8080"):
            same(fetch(place), "served\n", place)
        status, output = engine.run("wget", "-q", "-O", "-", f"http://{address['IPAddress']}/")
        same((status, output), (0, "served\n"), "from another container")
    with Nft() as nft:
        rules = nft.run("list ruleset")
    expect("8080" not in rules, rules)


def fetch(place: str) -> str:
    """GET / from `place`, once the server there listens."""
    found: list[str] = []

    def listens() -> bool:
        connection = http.client.HTTPConnection(place, timeout=10)
        try:
            connection.request("GET", "/")
            found.append(connection.getresponse().read().decode())
        except (ConnectionRefusedError, http.client.RemoteDisconnected, ConnectionResetError):
            return False
        finally:
            connection.close()
        return True

    until(listens, f"{place} does not listen")
    return found[0]


@check
def many_layers_are_mounted_by_an_older_kernel(engine: Engine) -> None:
    snapshots = OverlaySnapshotter(Path("/var/lib/layers"))
    parent = None
    for number in range(125):
        key = f"key{number}"
        snapshots.prepare(key, parent)
        (snapshots.upper(key) / f"file{number}").write_text(str(number))
        parent = f"sha256:{number:064x}"
        snapshots.commit(parent, key)
    snapshots.prepare("top", parent)
    for reference, readonly in (("top", False), (parent, True)):
        assert reference is not None
        tree = snapshots.mount(reference, readonly=readonly)
        try:
            same(len(os.listdir(f"/proc/self/fd/{tree}")), 125, "files seen through 125 layers")
        finally:
            os.close(tree)


# ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@check
def signals_arrive(engine: Engine) -> None:
    with engine.running("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 1; done") as identity:
        status = f"/proc/{engine.inspect(identity)['State']['Pid']}/status"
        until(lambda: "SigCgt:\t0000000000000000" not in text(status), "it sets no trap")
        engine.call("POST", f"/containers/{identity}/kill", signal="TERM")
        same(engine.wait(identity), 5)
    with engine.running(host={"PidMode": "host"}) as identity:
        engine.execute(identity, "sh", "-c", "setsid sleep 601 > /dev/null 2>&1 &")
        engine.call("POST", f"/containers/{identity}/kill")
        same(engine.wait(identity), 137)
    left = [pid for pid in os.listdir("/proc") if pid.isdigit() and "sleep\x00601" in _command_line(pid)]
    same(left, [], "processes of a container without a pid namespace")


def _command_line(pid: str) -> str:
    try:
        return text(f"/proc/{pid}/cmdline")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@check
def containers_outlive_the_daemon(engine: Engine) -> None:
    stays = engine.create("sleep", "600", name="stays", host={"Memory": 32 * MEBIBYTE})
    ends = engine.create("sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 9", name="ends")
    for each in (stays, ends):
        engine.call("POST", f"/containers/{each}/start")
    pid = engine.inspect(stays)["State"]["Pid"]
    root = f"/proc/{engine.inspect(ends)['State']['Pid']}/root"
    watched = os.pidfd_open(engine.inspect(ends)["State"]["Pid"])
    engine.end(signal.SIGKILL)
    with open(f"{root}/tmp/end", "w"):
        pass
    expect(select.select([watched], [], [], 20)[0], "it did not end")
    engine.start()
    state = engine.inspect(stays)["State"]
    same((state["Status"], state["Pid"]), ("running", pid))
    state = engine.inspect(ends)["State"]
    same((state["Status"], state["ExitCode"]), ("exited", 9))
    same(engine.execute(stays, "cat", "/proc/self/cgroup"), (0, "0::/\n"))
    engine.call("POST", f"/containers/{stays}/update", {"Memory": 40 * MEBIBYTE, "MemorySwap": -1})
    same(group(engine, stays, "memory.max"), str(40 * MEBIBYTE))
    for each in (stays, ends):
        engine.remove(each)


@check
def nothing_is_left(engine: Engine) -> None:
    same(engine.json("GET", "/containers/json", all=1), [])
    parents = ("scow", "mine", "own")  # named by users, or the engine's own: they stay
    left = [folder for folder, _folders, _files in os.walk(CGROUPS) if folder.rpartition("/")[2] not in parents]
    same(left, [CGROUPS], "groups")
    links = [name for name in os.listdir("/sys/class/net") if name not in ("lo", "scow0")]
    same(links, [], "links")
    mounts = [line.split()[1] for line in text("/proc/self/mounts").splitlines()]
    same([place for place in mounts if "scow" in place], [], "mounts")


# ── hosts of other shapes ───────────────────────────────────────────────────────────────────────────────────────────


def in_group(folder: str, *more: str) -> list[str]:
    """The beginning of a command that runs in the group `folder`, behind the command `more`."""
    os.makedirs(folder, exist_ok=True)
    return ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *more]


@check
def it_lives_in_a_service_of_its_own(engine: Engine) -> None:
    """A service manager's host: the daemon is deep below, and the root passes on some controllers already."""
    engine.end(signal.SIGTERM)
    service = f"{CGROUPS}/system.slice/scowd.service"
    engine.start(*in_group(service))
    with engine.running(host={"Memory": 32 * MEBIBYTE}) as identity:
        same(group(engine, identity, "memory.max"), str(32 * MEBIBYTE))
        processes = text(f"{service}/cgroup.procs").split()
        expect(len(processes) >= 3, "daemon, keeper and shims stay in the service:", processes)
        same(text(f"{service}/cgroup.subtree_control"), "", "passed on by the service")
    with engine.running(host={"CgroupParent": "/system.slice"}) as identity:
        same(engine.execute(identity, "true")[0], 0)
    taken = engine.create("true", host={"CgroupParent": "/system.slice/scowd.service", "Memory": 32 * MEBIBYTE})
    told = json.loads(engine.call("POST", f"/containers/{taken}/start", status=(500,)))["message"]
    print("   below a group with processes:", told)
    expect("system.slice/scowd.service does not pass the controller on, for it has processes itself" in told, told)
    engine.remove(taken)
    same(engine.run("true", host={"CgroupParent": "/system.slice/scowd.service"})[0], 0, "there without limits")
    engine.end(signal.SIGTERM)


@check
def it_lives_in_a_container(engine: Engine) -> None:
    """A cgroup namespace whose root is a group with processes, the daemon's own among them."""
    leave = (
        "import os, sys; from scow.linux.namespaces import *; from scow.linux.mount import *; "
        "unshare(CLONE_NEWCGROUP | CLONE_NEWNS); mount(None, '/', None, MS_REC | MS_PRIVATE); "
        "umount2('/sys/fs/cgroup'); mount('cgroup2', '/sys/fs/cgroup', 'cgroup2'); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    engine.start(*in_group(f"{CGROUPS}/box", sys.executable, "-c", leave))
    status, output = engine.run("cat", "/sys/fs/cgroup/memory.max", host={"Memory": 32 * MEBIBYTE})
    same((status, output), (0, f"{32 * MEBIBYTE}\n"))
    expect("memory" in text(f"{CGROUPS}/box/cgroup.subtree_control"), "nothing is passed on")
    same(text(f"{CGROUPS}/box/cgroup.procs"), "", "processes left in the namespace's root")
    engine.end(signal.SIGTERM)


@check
def a_read_only_hierarchy_is_told(_engine: Engine) -> None:
    made = "print(Cgroup.open('/scow/none').remove()); Cgroup.create('/scow/x')"
    program = f"from scow.runtime.cgroup import Cgroup; {made}"
    script = 'mount -o bind,remount,ro /sys/fs/cgroup && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = done.stderr.strip().splitlines()[-1]
    print("   read-only:", told)
    same(done.stdout, "True\n", "one that is not there counts as removed")
    expect("Read-only file system" in told and "read-write" in told, told)


def main() -> int:
    failed = 0
    chosen = [name for name in os.environ.get("SCOW_CHECKS", "").split(",") if name]
    engine = Engine()
    for each in CHECKS:
        if chosen and each.__name__ not in chosen:
            continue
        started = time.monotonic()
        try:
            each(engine)
        except Exception as error:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print("FAIL", each.__name__, f"{time.monotonic() - started:.1f}: {' '.join(str(error).split())}")
        else:
            print("ok", each.__name__, f"{time.monotonic() - started:.1f}")
    if failed:
        print("daemon:", text(engine.log)[-6000:])
    return failed


if __name__ == "__main__":
    sys.exit(main())
