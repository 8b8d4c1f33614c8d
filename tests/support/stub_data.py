"""Objects as a daemon lists them, for golden output. Times are relative to the start of the test."""

import time
from typing import Any

NOW = int(time.time())
A, B, C, D, E, F = (letter * 64 for letter in "abcdef")


def port(private: int, public: int = 0, address: str = "", kind: str = "tcp") -> dict[str, Any]:
    found: dict[str, Any] = {"PrivatePort": private, "Type": kind}
    return found | ({"PublicPort": public} if public else {}) | ({"IP": address} if address else {})


CONTAINERS = [
    {
        "Id": A, "Names": ["/web"], "Image": "nginx:latest", "ImageID": f"sha256:{B}",
        "Command": "/docker-entrypoint.sh nginx -g 'daemon off;'", "Created": NOW - 7300,
        "Ports": [
            port(80, 8080, "0.0.0.0"), port(80, 8080, "::"), port(443), port(9000), port(9001), port(9002),
            port(7000, 7000, "127.0.0.1"), port(7001, 7001, "127.0.0.1"), port(53, kind="udp"),
        ],
        "Labels": {"com.example.my-name": "x", "b": "<2>"}, "State": "running", "Status": "Up 2 minutes (healthy)",
        "SizeRw": 12345, "SizeRootFs": 123456789, "NetworkSettings": {"Networks": {"bridge": {}, "app": {}}},
        "Mounts": [
            {"Type": "volume", "Name": "0123456789abcdef0123", "Driver": "local", "Destination": "/d"},
            {"Type": "bind", "Source": "/srv", "Destination": "/x"},
        ],
    },
    {
        "Id": C, "Names": ["/db", "/web/db"], "Image": f"sha256:{D}", "ImageID": f"sha256:{D}", "Command": "sh",
        "Created": NOW - 90000, "Ports": [], "Labels": None, "State": "exited", "Status": "Exited (0) 5 seconds ago",
        "NetworkSettings": {"Networks": {}}, "Mounts": [],
    },
    {
        "Id": E, "Names": ["/c3"], "Image": f"r.example.com:5000/a/b@sha256:{F}", "ImageID": "sha256:" + "1" * 64,
        "Command": "sleep 1", "Created": NOW - 86400 * 45, "Ports": [], "Labels": {}, "State": "created",
        "Status": "Created", "NetworkSettings": {"Networks": {"none": {}}}, "Mounts": [],
    },
]  # fmt: skip
IMAGES = [
    {
        "Id": f"sha256:{B}", "RepoTags": ["nginx:latest", "nginx:1.27", "localhost:5000/a/nginx:x"],
        "RepoDigests": [f"nginx@sha256:{'9' * 64}"], "Created": NOW - 86400 * 3, "Size": 187654321,
        "SharedSize": -1, "Containers": -1,
    },
    {
        "Id": f"sha256:{D}", "RepoTags": [], "RepoDigests": [], "Created": NOW - 3600 * 5, "Size": 999,
        "SharedSize": -1, "Containers": 2,
    },
    {
        "Id": f"sha256:{'7' * 64}", "RepoTags": [], "RepoDigests": [f"busybox@sha256:{'8' * 64}"],
        "Created": NOW - 10900, "Size": 1500, "SharedSize": 500, "Containers": 0,
    },
]  # fmt: skip
HISTORY = [
    {"Id": f"sha256:{B}", "Created": NOW - 86400 * 3, "CreatedBy": 'CMD ["nginx" "-g" "daemon off;"] and more of it',
     "Tags": ["nginx:latest"], "Size": 0, "Comment": "buildkit"},
    {"Id": "<missing>", "Created": NOW - 86400 * 4, "CreatedBy": "/bin/sh -c #(nop) ADD", "Size": 77123456},
]  # fmt: skip
NETWORKS = [
    {"Name": "bridge", "Id": "1" * 64, "Created": "2026-01-02T03:04:05.123456789Z", "Scope": "local",
     "Driver": "bridge", "EnableIPv4": True, "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}},
    {"Name": "app", "Id": "2" * 64, "Created": "2026-02-02T03:04:05Z", "Scope": "local", "Driver": "bridge",
     "EnableIPv4": False, "EnableIPv6": True, "Internal": True, "Labels": {}},
]  # fmt: skip
VOLUMES = [
    {"Name": "data", "Driver": "local", "Mountpoint": "/m", "Scope": "local", "Labels": {"k": "v"}},
    {"Name": B, "Driver": "local", "Mountpoint": "/m2", "Scope": "local", "Labels": None},
]
USAGE = {
    "LayersSize": 187656820,
    "Images": [{**image, "SharedSize": 0} for image in IMAGES],
    "Containers": CONTAINERS,
    "Volumes": [{**v, "UsageData": {"RefCount": n, "Size": 1234567}} for n, v in enumerate(VOLUMES)],
    "BuildCache": [
        {"ID": "k" * 25, "Type": "regular", "Size": 1000000, "CreatedAt": "2026-01-02T03:04:05Z", "UsageCount": 1}
    ],
}
STATS = {
    "id": A, "name": "/web", "pids_stats": {"current": 3},
    "cpu_stats": {"cpu_usage": {"total_usage": 2 * 10**8}, "system_cpu_usage": 4 * 10**9, "online_cpus": 2},
    "precpu_stats": {"cpu_usage": {"total_usage": 10**8}, "system_cpu_usage": 2 * 10**9, "online_cpus": 2},
    "memory_stats": {"usage": 10**7, "limit": 2 * 10**9, "stats": {"inactive_file": 10**6}},
    "networks": {"eth0": {"rx_bytes": 1234, "tx_bytes": 567}},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 1000}, {"op": "write", "value": 2048000}]},
}  # fmt: skip
INSPECT: dict[str, Any] = {
    "Id": A, "Name": "/web", "Args": ["-g", "daemon off;"], "RestartCount": 0,
    "State": {"Status": "running", "Running": True, "Paused": False, "Restarting": False, "Pid": 1234, "ExitCode": 0},
    "HostConfig": {"Binds": None, "NanoCpus": 1500000000, "CapAdd": ["NET_ADMIN"], "AutoRemove": False},
    "Config": {"Tty": False, "OpenStdin": True, "Env": ["A=1", "B=<x>&y"], "Labels": {"z": "1"}},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
                  "443/tcp": None},
        "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
    },
}  # fmt: skip
EVENTS = [
    {"Type": "container", "Action": "start", "Actor": {"ID": A, "Attributes": {"name": "web", "image": "nginx"}},
     "time": 1767323045, "timeNano": 1767323045123456789},
    {"Type": "network", "Action": "connect", "Actor": {"ID": "n", "Attributes": {}}, "time": 1767323045},
]  # fmt: skip
INFO = {
    "ID": "i", "Containers": 3, "ContainersRunning": 1, "ContainersPaused": 0, "ContainersStopped": 2, "Images": 3,
    "Driver": "overlay", "DriverStatus": [["Backing Filesystem", "extfs"]], "ServerVersion": "9.9",
    "Plugins": {"Volume": ["local"], "Network": ["bridge", "host"], "Log": ["json-file", "local"]},
    "LoggingDriver": "json-file", "CgroupDriver": "cgroupfs", "CgroupVersion": "1", "KernelVersion": "6.1",
    "OperatingSystem": "Debian", "OSType": "linux", "Architecture": "x86_64", "NCPU": 2, "MemTotal": 8 * 10**9,
    "Name": "host", "DockerRootDir": "/var/lib/scow", "Runtimes": {"scow": {}}, "DefaultRuntime": "scow",
    "Swarm": {"LocalNodeState": "inactive"}, "SecurityOptions": ["name=seccomp,profile=builtin"], "Labels": ["a=b"],
    "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"]}, "Warnings": ["WARNING: no swap"],
}  # fmt: skip

ROUTES: dict[str, Any] = {
    "GET /containers/json": CONTAINERS,
    "GET /containers/web/json": INSPECT,
    f"GET /containers/{A}/json": INSPECT,
    "GET /containers/web/stats": STATS,
    "GET /containers/web/top": {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", "1", "nginx: master"]]},
    "GET /containers/web/changes": [{"Path": "/a", "Kind": 0}, {"Path": "/b", "Kind": 1}, {"Path": "/c", "Kind": 2}],
    "GET /images/json": IMAGES,
    "GET /images/nginx/history": HISTORY,
    "GET /networks": NETWORKS,
    "GET /networks/bridge": NETWORKS[0],
    "GET /volumes": {"Volumes": VOLUMES},
    "GET /system/df": USAGE,
    "GET /info": INFO,
    "GET /events": lambda call: iter(EVENTS),
    "POST /containers/prune": {"ContainersDeleted": ["abc"], "SpaceReclaimed": 1234567},
    "POST /networks/prune": {"NetworksDeleted": ["n1"]},
    "POST /volumes/prune": {"VolumesDeleted": ["v1"], "SpaceReclaimed": 10},
    "POST /images/prune": {"ImagesDeleted": [{"Untagged": "a"}, {"Deleted": "sha256:b"}], "SpaceReclaimed": 1000},
    "POST /build/prune": {"CachesDeleted": ["c1"], "SpaceReclaimed": 5},
    "GET /images/search": [
        {"name": "busybox", "description": "Base image. " * 9, "star_count": 9, "is_official": True}
    ],
}
