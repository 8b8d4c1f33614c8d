"""The System tag: ping, version, info and disk usage (events and auth have modules of their own)."""

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scow import __version__
from scow.api import version
from scow.daemon import host
from scow.daemon.usage import disk_usage
from scow.errors import InvalidArgument
from scow.logs.driver import DRIVERS
from scow.web.response import Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine
    from scow.web.request import Request

routes = Routes()

#: Answers to ``/_ping`` are not to be cached; Builder-Version 1 sends the docker CLI to ``POST /build``.
PING_HEADERS = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Builder-Version": "1",
    "Swarm": "inactive",
}
DISK_USAGE_KINDS = frozenset({"container", "image", "volume", "build-cache"})


@routes.get("/_ping")
async def ping(engine: "Engine", request: "Request") -> Response:
    """SystemPing: alive, and which versions of the API are spoken (in the headers)."""
    return Response(200, b"OK", PING_HEADERS, content_type="text/plain; charset=utf-8")


@routes.head("/_ping")
async def ping_head(engine: "Engine", request: "Request") -> Response:
    """SystemPingHead: the headers of `ping` alone."""
    return Response(200, b"", PING_HEADERS, content_type="text/plain; charset=utf-8")


@routes.get("/version")
async def system_version(engine: "Engine", request: "Request") -> Response:
    """SystemVersion: what this daemon is made of."""
    details = {
        "ApiVersion": version.text(version.LATEST),
        "MinAPIVersion": version.text(version.OLDEST),
        "GitCommit": "",
        "GoVersion": host.python_version(),
        "Os": "linux",
        "Arch": host.go_architecture(),
        "KernelVersion": host.kernel_version(),
        "Experimental": "false",
    }
    return json_response(
        {
            "Platform": {"Name": f"Scow {__version__}"},
            "Components": [{"Name": "Engine", "Version": __version__, "Details": details}],
            "Version": __version__,
            **details,
            "Experimental": False,
        }
    )


@routes.get("/info")
async def system_info(engine: "Engine", request: "Request") -> Response:
    """SystemInfo: the engine, its machine, and what is missing on it."""
    parked = await engine.tasks.parked()
    return json_response(await asyncio.to_thread(info, engine, parked))


@routes.get("/system/df")
async def system_data_usage(engine: "Engine", request: "Request") -> Response:
    """SystemDataUsage: bytes of images, containers, volumes and build cache."""
    kinds = set(request.query.all("type")) or set(DISK_USAGE_KINDS)
    unknown = sorted(kinds - DISK_USAGE_KINDS)
    if unknown:
        raise InvalidArgument(f"unknown object type: {unknown[0]}: use {', '.join(sorted(DISK_USAGE_KINDS))}")
    verbose = request.query.boolean("verbose") or request.version < (1, 52)
    return json_response(await disk_usage(engine, kinds, verbose=verbose, version=request.version))


def info(engine: "Engine", parked: dict[str, Any]) -> dict[str, Any]:
    """The API's SystemInfo. Blocking (reads /proc and counts files).

    Args:
        parked: sandboxes that are ready for starts, see `scow.tasks.tasks.Tasks.parked`.
    """
    sandboxes = f"{parked['ready']} ready of {parked['wanted']}, at most {parked['most']}"
    config = engine.config
    states = engine.containers.count_by_state()
    return {
        "ID": engine.id,
        "Containers": sum(states.values()),
        "ContainersRunning": states.get("running", 0),
        "ContainersPaused": states.get("paused", 0),
        "ContainersStopped": sum(states.values()) - states.get("running", 0) - states.get("paused", 0),
        "Images": len(engine.images.list()),
        "Driver": engine.snapshots.driver,
        "DriverStatus": [["Backing store", str(config.data_root / "snapshots")]],
        "DockerRootDir": str(config.data_root),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": None,
            "Log": sorted(DRIVERS),
        },
        **_resources(),
        **_machine(),
        "Debug": config.flag("debug"),
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": len(os.listdir("/proc/self/task")),
        "SystemTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "LoggingDriver": config.text("log-driver"),
        "NEventsListener": engine.events.listeners,
        "IndexServerAddress": engine.registry.index_server(),
        "RegistryConfig": engine.registry.service_config(),
        "GenericResources": None,
        "HttpProxy": os.environ.get("HTTP_PROXY", ""),
        "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
        "NoProxy": os.environ.get("NO_PROXY", ""),
        "Labels": list(config.list("labels")),
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": {"scow": {"path": "scow-runtime", "status": {"scow.parked-sandboxes": sandboxes}}},
        "DefaultRuntime": "scow",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
                  "RemoteManagers": None},
        "LiveRestoreEnabled": config.flag("live-restore"),
        "Isolation": "",
        "InitBinary": "scow-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": host.security_options(),
        "DefaultAddressPools": [{"Base": base, "Size": size} for base, size in engine.networks.pools()],
        "FirewallBackend": {"Driver": "nftables" if engine.networks.firewall_missing() is None else "none"},
        "CDISpecDirs": [],
        "Warnings": warnings(engine),
    }  # fmt: skip


def warnings(engine: "Engine") -> list[str]:
    """What is missing on this machine and what to do about it, a sentence each; empty when nothing is."""
    missing = [engine.networks.firewall_missing()]
    found = [f"WARNING: {text}" for text in missing if text]
    found += [f"WARNING: No {name} support" for name in host.missing_limits()]
    if not host.ipv4_forwarding():
        found.append("WARNING: IPv4 forwarding is disabled")
    return found


def _resources() -> dict[str, Any]:
    there = host.resources()
    return {
        "MemoryLimit": there["memory limit"],
        "SwapLimit": there["swap limit"],
        "CpuCfsPeriod": there["cpu cfs period"],
        "CpuCfsQuota": there["cpu cfs quota"],
        "CPUShares": there["cpu shares"],
        "CPUSet": there["cpuset"],
        "PidsLimit": there["pids limit"],
        "OomKillDisable": there["oom kill disable"],
        "IPv4Forwarding": host.ipv4_forwarding(),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": host.cgroup_version(),
    }


def _machine() -> dict[str, Any]:
    return {
        "KernelVersion": host.kernel_version(),
        "OperatingSystem": host.operating_system(),
        "OSVersion": host.os_version(),
        "OSType": "linux",
        "Architecture": host.architecture(),
        "NCPU": host.processors(),
        "MemTotal": host.memory_total(),
        "Name": os.uname().nodename,
    }
