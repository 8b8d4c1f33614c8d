import asyncio

import pytest

from scow.api.containers import HealthConfig
from scow.containers.container import Health, ProbeResult
from scow.containers.health import MAX_LOG, command, judge, pause_before, probe_once
from scow.errors import Conflict


def result(code):
    return ProbeResult(start=1, end=2, exit_code=code, output="")


def test_commands():
    assert command(HealthConfig(test=["CMD", "ok", "-q"]), None) == ["ok", "-q"]
    assert command(HealthConfig(test=["CMD-SHELL", "a | b"]), None) == ["/bin/sh", "-c", "a | b"]
    assert command(HealthConfig(test=["CMD-SHELL", "a"]), ["/bin/bash", "-c"]) == ["/bin/bash", "-c", "a"]
    assert command(HealthConfig(test=["NONE"]), None) is None
    assert command(HealthConfig(), None) is None


def test_unhealthy_after_retries_in_a_row():
    health = Health()
    for expected in ("starting", "starting", "unhealthy", "unhealthy"):
        health = judge(health, result(1), retries=0, starting=False)
        assert health.status == expected
    assert health.failing_streak == 4
    health = judge(health, result(0), retries=0, starting=False)
    assert (health.status, health.failing_streak) == ("healthy", 0)
    assert len(health.log) == MAX_LOG


def test_the_start_period_excuses_failures_until_the_first_success():
    health = judge(Health(), result(1), retries=1, starting=True)
    assert (health.status, health.failing_streak) == ("starting", 0)
    health = judge(health, result(0), retries=1, starting=True)
    assert health.status == "healthy"
    assert judge(health, result(1), retries=1, starting=True).status == "unhealthy"


def test_intervals():
    probe = HealthConfig(interval=2_000_000_000, start_interval=500_000_000)
    assert pause_before(probe, starting=True) == 0.5
    assert pause_before(probe, starting=False) == 2
    assert pause_before(HealthConfig(), starting=False) == 30


def test_a_probe_that_hangs_is_ended():
    ended = []

    async def run(argv, output):
        try:
            output += b"so far"
            await asyncio.Event().wait()
        finally:
            ended.append(argv)

    found = asyncio.run(probe_once(["x"], run, 10_000_000))
    assert found.exit_code == -1
    assert found.output == "Health check exceeded timeout (10ms): so far"
    assert ended == [["x"]]


def test_a_probe_that_cannot_be_started():
    async def run(_argv, _output):
        raise Conflict("no such program")

    found = asyncio.run(probe_once(["x"], run, 10**9))
    assert (found.exit_code, found.output) == (-1, "no such program")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_probe_that_ends(code):
    async def run(_argv, output):
        output += b"\xffout" * 2000
        return code

    found = asyncio.run(probe_once(["x"], run, 5 * 10**9))
    assert found.exit_code == code
    assert len(found.output) == 4096 + len("...")
    assert found.output.endswith("...")
