"""Health checks: the probe of a container run at its interval, what its results mean, and what is done about them.

`judge` is the rule, pure; `watch` is the loop that belongs to one run of a container and is cancelled with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from scow.api.containers import HealthConfig
from scow.api.units import go_duration
from scow.containers.container import Container, Health, ProbeResult
from scow.containers.context import Context
from scow.errors import EngineError

#: Docker's defaults, in ns.
INTERVAL = 30_000_000_000
TIMEOUT = 30_000_000_000
START_INTERVAL = 5_000_000_000
RETRIES = 3
#: Results kept, and bytes of output kept of each.
MAX_LOG = 5
MAX_OUTPUT = 4096
SHELL = ["/bin/sh", "-c"]

#: What may be done about a container that has become unhealthy (``HostConfig.HealthOnFailure``, "" is "none").
ACTIONS = ("", "none", "restart", "stop", "kill")
#: Exit code of a probe that did not end by itself, or could not be started.
NO_ANSWER = -1

#: Runs a probe's command and puts what it writes into the buffer, a little more than `MAX_OUTPUT` bytes at most; its
#: exit code. Cancelling it kills the command.
Runner = Callable[[list[str], bytearray], Awaitable[int]]


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


async def watch(
    context: Context,
    container: Container,
    probe: HealthConfig,
    argv: list[str],
    run: Runner,
    act: Callable[[], Awaitable[None]],
) -> None:
    """Probe again and again, record and tell; ends only by being cancelled.

    Args:
        act: called after each probe that finds the container unhealthy.
    """
    if container.record.health is None:
        container.record.health = Health()
    while True:
        await asyncio.sleep(pause_before(probe, starting=_starting(container, probe, time.time_ns())))
        result = await probe_once(argv, run, probe.timeout or TIMEOUT)
        old = container.record.health or Health()
        starting = _starting(container, probe, result.start)
        new = judge(old, result, retries=probe.retries, starting=starting)
        container.record.health = new
        await context.save(container, durable=False)
        container.changed()
        if new.status != old.status:
            context.tell(container, f"health_status: {new.status}")
        if new.status == "unhealthy" and result.exit_code:
            await act()


def _starting(container: Container, probe: HealthConfig, now: int) -> bool:
    """Whether the start period still excuses failures: it ends with its time or the first success."""
    health = container.record.health
    status = health.status if health is not None else "starting"
    return status == "starting" and now - container.record.started < probe.start_period


async def probe_once(argv: list[str], run: Runner, timeout: int) -> ProbeResult:
    """Run the probe once; one that takes longer than `timeout` ns is killed and counts as `NO_ANSWER`."""
    start = time.time_ns()
    output = bytearray()
    try:
        async with asyncio.timeout(timeout / 1e9):
            code = await run(argv, output)
        text = _text(output)
    except TimeoutError:
        code, text = NO_ANSWER, f"Health check exceeded timeout ({go_duration(timeout)})"
        if output:
            text += f": {_text(output)}"
    except EngineError as error:
        code, text = NO_ANSWER, str(error)
    return ProbeResult(start=start, end=time.time_ns(), exit_code=code, output=text)


def _text(output: bytearray) -> str:
    """What is kept of a probe's output; three dots tell of more."""
    return output[:MAX_OUTPUT].decode("utf-8", "replace") + ("..." if len(output) > MAX_OUTPUT else "")
