"""Health checks: the probe of a container run at its interval, and what its results mean.

`judge` is the rule, pure; `watch` is the loop that belongs to one run of a container and is cancelled with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from scow.api.containers import HealthConfig
from scow.containers.container import Container, Health, ProbeResult
from scow.containers.context import Context

#: Docker's defaults, in ns.
INTERVAL = 30_000_000_000
TIMEOUT = 30_000_000_000
START_INTERVAL = 5_000_000_000
RETRIES = 3
#: Results kept, and bytes of output kept of each.
MAX_LOG = 5
MAX_OUTPUT = 4096
SHELL = ["/bin/sh", "-c"]

#: Runs a probe's command: (exit code, output of at most `MAX_OUTPUT` bytes). Cancelling it kills the command.
Runner = Callable[[list[str]], Awaitable[tuple[int, bytes]]]


def command(probe: HealthConfig, shell: list[str] | None) -> list[str] | None:
    """What to run, None if there is no probe."""
    if not probe.test or probe.test[0] == "NONE":
        return None
    if probe.test[0] == "CMD-SHELL":
        return [*(shell or SHELL), *probe.test[1:]]
    return probe.test[1:]


def judge(health: Health, result: ProbeResult, *, retries: int, starting: bool) -> Health:
    """What the container's health is after one more result.

    Args:
        retries: failures in a row that make it unhealthy.
        starting: the start period is not over, so a failure does not count.
    """
    log = [*health.log, result][-MAX_LOG:]
    if result.exit_code == 0:
        return Health(status="healthy", failing_streak=0, log=log)
    if starting and health.status == "starting":
        return Health(status=health.status, failing_streak=health.failing_streak, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= (retries or RETRIES) else health.status
    return Health(status=status, failing_streak=streak, log=log)


def pause_before(probe: HealthConfig, *, starting: bool) -> float:
    """Seconds until the next probe."""
    interval = (probe.start_interval or START_INTERVAL) if starting else (probe.interval or INTERVAL)
    return interval / 1e9


async def watch(context: Context, container: Container, probe: HealthConfig, argv: list[str], run: Runner) -> None:
    """Probe again and again, record and tell; ends only by being cancelled."""
    began = time.monotonic_ns()
    if container.record.health is None:
        container.record.health = Health()
    while True:
        starting = _starting(container, probe, began)
        await asyncio.sleep(pause_before(probe, starting=starting))
        result = await probe_once(argv, run, (probe.timeout or TIMEOUT) / 1e9)
        old = container.record.health or Health()
        new = judge(old, result, retries=probe.retries, starting=_starting(container, probe, began))
        container.record.health = new
        await context.save(container, durable=False)
        container.changed()
        if new.status != old.status:
            context.tell(container, f"health_status: {new.status}")


def _starting(container: Container, probe: HealthConfig, began: int) -> bool:
    """Whether the start period still excuses failures: it ends with its time or the first success."""
    health = container.record.health
    status = health.status if health is not None else "starting"
    return status == "starting" and time.monotonic_ns() - began < probe.start_period


async def probe_once(argv: list[str], run: Runner, timeout: float) -> ProbeResult:
    """Run the probe once; one that takes longer than `timeout` seconds is killed and counts as -1."""
    start = time.time_ns()
    try:
        async with asyncio.timeout(timeout):
            code, output = await run(argv)
        text = output[:MAX_OUTPUT].decode("utf-8", "replace")
    except TimeoutError:
        code, text = -1, f"Health check exceeded timeout ({timeout:g}s)"
    return ProbeResult(start=start, end=time.time_ns(), exit_code=code, output=text)
