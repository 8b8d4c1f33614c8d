import pytest

from scow.api.containers import RestartPolicy
from scow.containers.restart import FIRST, LONG_ENOUGH, LONGEST, next_delay, wanted, wanted_at_boot


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarts", "by_user", "answer"),
    [
        (("no", 0), 1, 0, False, False),
        (("", 0), 1, 0, False, False),
        (("always", 0), 0, 99, False, True),
        (("always", 0), 0, 0, True, False),
        (("unless-stopped", 0), 0, 0, False, True),
        (("unless-stopped", 0), 0, 0, True, False),
        (("on-failure", 0), 0, 0, False, False),
        (("on-failure", 0), 1, 99, False, True),
        (("on-failure", 2), 1, 1, False, True),
        (("on-failure", 2), 1, 2, False, False),
    ],
)
def test_policies(policy, exit_code, restarts, by_user, answer):
    asked = RestartPolicy(name=policy[0], maximum_retry_count=policy[1])
    assert wanted(asked, exit_code=exit_code, restarts=restarts, stopped_by_user=by_user) is answer


def test_at_boot_always_forgets_who_stopped_it():
    always, unless = RestartPolicy(name="always"), RestartPolicy(name="unless-stopped")
    assert wanted_at_boot(always, exit_code=0, restarts=0, stopped_by_user=True)
    assert not wanted_at_boot(unless, exit_code=0, restarts=0, stopped_by_user=True)
    assert wanted_at_boot(unless, exit_code=0, restarts=0, stopped_by_user=False)


def test_back_off_doubles_to_a_minute_and_is_forgiven():
    delays, last = [], 0
    for _ in range(13):
        last = next_delay(last, lived=0)
        delays.append(last)
    assert delays[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert delays[-1] == LONGEST
    assert next_delay(LONGEST, lived=LONG_ENOUGH) == FIRST
