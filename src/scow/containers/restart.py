"""Restart policies: whether a container that ended starts again, and after how long. Pure.

The numbers are Docker's (moby's restartmanager): 100 ms doubling to a minute, forgotten after a run of 10 s.
"""

from scow.api.containers import RestartPolicy

FIRST = 100_000_000
LONGEST = 60_000_000_000
#: A run at least this long (ns) counts as success and resets the back-off.
LONG_ENOUGH = 10_000_000_000


def wanted(policy: RestartPolicy, *, exit_code: int, restarts: int, stopped_by_user: bool) -> bool:
    """Whether the policy asks for another start after an exit.

    Args:
        restarts: how often the policy has restarted it since a person last started it.
    """
    if stopped_by_user:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure":
        return exit_code != 0 and (not policy.maximum_retry_count or restarts < policy.maximum_retry_count)
    return False


def wanted_at_boot(policy: RestartPolicy, *, exit_code: int, restarts: int, stopped_by_user: bool) -> bool:
    """Whether a container found ended when the daemon starts is started: always forgets that a person stopped it."""
    if policy.name == "always":
        return True
    return wanted(policy, exit_code=exit_code, restarts=restarts, stopped_by_user=stopped_by_user)


def next_delay(last: int, lived: int) -> int:
    """How long to wait (ns) before the next start, after a run of `lived` ns and a `last` wait (0 = none yet)."""
    if last == 0 or lived >= LONG_ENOUGH:
        return FIRST
    return min(last * 2, LONGEST)
