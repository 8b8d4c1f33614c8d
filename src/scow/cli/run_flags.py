"""The flags of ``run`` and ``create``: one table of flag → field of the API → parser → help.

A row's field is where its value goes as it is; rows without one are read by `container_config`. The same table makes
the parser, the help and the request, so that they cannot disagree.
"""

from scow.cli import mounts, run_values
from scow.cli.flags import Flag
from scow.cli.options import CONTENT_TRUST, PLATFORM

_CGROUPNS = (
    "Cgroup namespace to use (host|private)\n"
    "'host':    Run the container in the host's cgroup namespace\n"
    "'private': Run the container in its own private cgroup namespace\n"
    "'':        Use the cgroup namespace as configured on the daemon (default)"
)

#: Flag → "Config.Field", "HostConfig.Field", or "" where the value needs more than being put somewhere.
TABLE: tuple[tuple[Flag, str], ...] = (
    (Flag("add-host", run_values.HOST, "Add a custom host-to-IP mapping (host:ip)"), "HostConfig.ExtraHosts"),
    (Flag("annotation", "map", "Add an annotation to the container (passed through to the OCI runtime)"), ""),
    (Flag("attach", run_values.ATTACH, "Attach to STDIN, STDOUT or STDERR", short="a"), ""),
    (
        Flag("blkio-weight", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
        "HostConfig.BlkioWeight",
    ),
    (
        Flag("blkio-weight-device", run_values.WEIGHT, "Block IO weight (relative device weight) (default [])"),
        "HostConfig.BlkioWeightDevice",
    ),
    (Flag("cap-add", "list", "Add Linux capabilities"), "HostConfig.CapAdd"),
    (Flag("cap-drop", "list", "Drop Linux capabilities"), "HostConfig.CapDrop"),
    (Flag("cgroup-parent", "string", "Optional parent cgroup for the container"), "HostConfig.CgroupParent"),
    (Flag("cgroupns", "string", _CGROUPNS), "HostConfig.CgroupnsMode"),
    (Flag("cidfile", "string", "Write the container ID to the file"), ""),
    (Flag("cpu-count", "int", "CPU count (Windows only)", hidden=True), ""),
    (Flag("cpu-percent", "int", "CPU percent (Windows only)", hidden=True), ""),
    (Flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"), "HostConfig.CpuPeriod"),
    (Flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"), "HostConfig.CpuQuota"),
    (Flag("cpu-rt-period", "int", "Limit CPU real-time period in microseconds"), "HostConfig.CpuRealtimePeriod"),
    (Flag("cpu-rt-runtime", "int", "Limit CPU real-time runtime in microseconds"), "HostConfig.CpuRealtimeRuntime"),
    (Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"), "HostConfig.CpuShares"),
    (Flag("cpus", "decimal", "Number of CPUs"), "HostConfig.NanoCpus"),
    (Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"), "HostConfig.CpusetCpus"),
    (Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"), "HostConfig.CpusetMems"),
    (Flag("device", "list", "Add a host device to the container"), ""),
    (
        Flag("device-cgroup-rule", run_values.RULE, "Add a rule to the cgroup allowed devices list"),
        "HostConfig.DeviceCgroupRules",
    ),
    (
        Flag("device-read-bps", run_values.BPS, "Limit read rate (bytes per second) from a device (default [])"),
        "HostConfig.BlkioDeviceReadBps",
    ),
    (
        Flag("device-read-iops", run_values.IOPS, "Limit read rate (IO per second) from a device (default [])"),
        "HostConfig.BlkioDeviceReadIOps",
    ),
    (
        Flag("device-write-bps", run_values.BPS, "Limit write rate (bytes per second) to a device (default [])"),
        "HostConfig.BlkioDeviceWriteBps",
    ),
    (
        Flag("device-write-iops", run_values.IOPS, "Limit write rate (IO per second) to a device (default [])"),
        "HostConfig.BlkioDeviceWriteIOps",
    ),
    (CONTENT_TRUST, ""),
    (Flag("dns", run_values.ADDRESS, "Set custom DNS servers"), "HostConfig.Dns"),
    (Flag("dns-opt", "list", "Set DNS options", hidden=True), ""),
    (Flag("dns-option", "list", "Set DNS options"), ""),
    (Flag("dns-search", "list", "Set custom DNS search domains"), "HostConfig.DnsSearch"),
    (Flag("domainname", "string", "Container NIS domain name"), "Config.Domainname"),
    (Flag("entrypoint", "string", "Overwrite the default ENTRYPOINT of the image"), ""),
    (Flag("env", run_values.ENV, "Set environment variables", short="e"), ""),
    (Flag("env-file", "list", "Read in a file of environment variables"), ""),
    (Flag("expose", "list", "Expose a port or a range of ports"), ""),
    (Flag("gpus", run_values.GPUS, "GPU devices to add to the container ('all' to pass all GPUs)"), ""),
    (Flag("group-add", "list", "Add additional groups to join"), "HostConfig.GroupAdd"),
    (Flag("health-cmd", "string", "Command to run to check health"), ""),
    (Flag("health-interval", "duration", "Time between running the check (ms|s|m|h) (default 0s)"), ""),
    (
        Flag("health-on-failure", "string", "Action when unhealthy: none, restart, stop or kill (default none)"),
        "HostConfig.HealthOnFailure",
    ),
    (Flag("health-retries", "int", "Consecutive failures needed to report unhealthy"), ""),
    (
        Flag(
            "health-start-interval",
            "duration",
            "Time between running the check during the start period (ms|s|m|h) (default 0s)",
        ),
        "",
    ),
    (
        Flag(
            "health-start-period",
            "duration",
            "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)"
            " (default 0s)",
        ),
        "",
    ),
    (Flag("health-timeout", "duration", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"), ""),
    (Flag("hostname", "string", "Container host name", short="h"), "Config.Hostname"),
    (Flag("init", "bool", "Run an init inside the container that forwards signals and reaps processes"), ""),
    (Flag("interactive", "bool", "Keep STDIN open even if not attached", short="i"), "Config.OpenStdin"),
    (Flag("io-maxbandwidth", "bytes", "Maximum IO bandwidth limit (Windows only)", hidden=True), ""),
    (Flag("io-maxiops", "uint", "Maximum IOps limit (Windows only)", hidden=True), ""),
    (Flag("ip", "string", "IPv4 address (e.g., 172.30.100.104)"), ""),
    (Flag("ip6", "string", "IPv6 address (e.g., 2001:db8::33)"), ""),
    (Flag("ipc", "string", "IPC mode to use"), "HostConfig.IpcMode"),
    (Flag("isolation", "string", "Container isolation technology (Windows only)", hidden=True), ""),
    (Flag("kernel-memory", "bytes", "Kernel memory limit", hidden=True), ""),
    (Flag("label", run_values.LABEL, "Set meta data on a container", short="l"), ""),
    (Flag("label-file", "list", "Read in a line delimited file of labels"), ""),
    (Flag("link", run_values.LINK, "Add link to another container"), ""),
    (Flag("link-local-ip", "list", "Container IPv4/IPv6 link-local addresses", hidden=True), ""),
    (Flag("log-driver", "string", "Logging driver for the container"), ""),
    (Flag("log-opt", "list", "Log driver options"), ""),
    (Flag("mac-address", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"), ""),
    (Flag("memory", "bytes", "Memory limit", short="m"), "HostConfig.Memory"),
    (Flag("memory-reservation", "bytes", "Memory soft limit"), "HostConfig.MemoryReservation"),
    (
        Flag("memory-swap", "swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
        "HostConfig.MemorySwap",
    ),
    (Flag("memory-swappiness", "int", "Tune container memory swappiness (0 to 100)", default=-1), ""),
    (Flag("mount", mounts.MOUNT, "Attach a filesystem mount to the container"), "HostConfig.Mounts"),
    (Flag("name", "string", "Assign a name to the container"), ""),
    (Flag("net", mounts.NETWORK, "Connect a container to a network", hidden=True), ""),
    (Flag("net-alias", "list", "Add network-scoped alias for the container", hidden=True), ""),
    (Flag("network", mounts.NETWORK, "Connect a container to a network"), ""),
    (Flag("network-alias", "list", "Add network-scoped alias for the container"), ""),
    (Flag("no-healthcheck", "bool", "Disable any container-specified HEALTHCHECK"), ""),
    (Flag("oom-kill-disable", "bool", "Disable OOM Killer"), "HostConfig.OomKillDisable"),
    (Flag("oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000)"), "HostConfig.OomScoreAdj"),
    (Flag("pid", "string", "PID namespace to use"), "HostConfig.PidMode"),
    (Flag("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"), "HostConfig.PidsLimit"),
    (PLATFORM, ""),
    (Flag("privileged", "bool", "Give extended privileges to this container"), "HostConfig.Privileged"),
    (Flag("publish", "list", "Publish a container's port(s) to the host", short="p"), ""),
    (Flag("publish-all", "bool", "Publish all exposed ports to random ports", short="P"), "HostConfig.PublishAllPorts"),
    (
        Flag("pull", "string", 'Pull image before running ("always", "missing", "never")', default="missing"),
        "",
    ),
    (Flag("quiet", "bool", "Suppress the pull output", short="q"), ""),
    (
        Flag("read-only", "bool", "Mount the container's root filesystem as read only"),
        "HostConfig.ReadonlyRootfs",
    ),
    (Flag("restart", "string", "Restart policy to apply when a container exits", default="no"), ""),
    (
        Flag("rm", "bool", "Automatically remove the container and its associated anonymous volumes when it exits"),
        "HostConfig.AutoRemove",
    ),
    (Flag("runtime", "string", "Runtime to use for this container"), "HostConfig.Runtime"),
    (Flag("security-opt", "list", "Security Options"), ""),
    (Flag("shm-size", "bytes", "Size of /dev/shm"), "HostConfig.ShmSize"),
    (Flag("stop-signal", "string", "Signal to stop the container"), "Config.StopSignal"),
    (Flag("stop-timeout", "int", "Timeout (in seconds) to stop a container"), "Config.StopTimeout"),
    (Flag("storage-opt", "list", "Storage driver options for the container"), ""),
    (Flag("sysctl", run_values.SYSCTL, "Sysctl options (default map[])"), ""),
    (Flag("tmpfs", "list", "Mount a tmpfs directory"), ""),
    (Flag("tty", "bool", "Allocate a pseudo-TTY", short="t"), "Config.Tty"),
    (Flag("ulimit", run_values.ULIMIT, "Ulimit options (default [])"), "HostConfig.Ulimits"),
    (Flag("use-api-socket", "bool", "Bind mount the API socket and required auth", hidden=True), ""),
    (Flag("user", "string", "Username or UID (format: <name|uid>[:<group|gid>])", short="u"), "Config.User"),
    (Flag("userns", "string", "User namespace to use"), "HostConfig.UsernsMode"),
    (Flag("uts", "string", "UTS namespace to use"), "HostConfig.UTSMode"),
    (Flag("volume", "list", "Bind mount a volume", short="v"), ""),
    (Flag("volume-driver", "string", "Optional volume driver for the container"), "HostConfig.VolumeDriver"),
    (Flag("volumes-from", "list", "Mount volumes from the specified container(s)"), "HostConfig.VolumesFrom"),
    (Flag("workdir", "string", "Working directory inside the container", short="w"), "Config.WorkingDir"),
)

#: Flags of Docker's table that mean nothing here → the sentence that says so.
REFUSED = {
    "cpu-count": "is for Windows containers: use --cpus",
    "cpu-percent": "is for Windows containers: use --cpus",
    "io-maxbandwidth": "is for Windows containers: use --device-write-bps",
    "io-maxiops": "is for Windows containers: use --device-write-iops",
    "kernel-memory": "was removed from the kernel's interface: use --memory",
    "link-local-ip": "is not supported: give the container an address with --ip",
    "use-api-socket": "is not supported: bind mount the socket with --volume",
}

FLAGS = tuple(flag for flag, _ in TABLE)
