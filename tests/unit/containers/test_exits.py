"""How long a container ran decides how soon it is started again, not what the clock says."""

from types import SimpleNamespace

import pytest

from scow.containers import exits, restart
from scow.tasks.task import ExitStatus

SECOND = 1_000_000_000
RECORD = SimpleNamespace(started=1_000 * SECOND)


@pytest.mark.parametrize("clock", [-900, 0, 900])
@pytest.mark.parametrize("ran", [1, 11])
def test_a_clock_that_jumps_leaves_the_back_off_alone(clock, ran):
    status = ExitStatus(1, max((1_000 + ran + clock) * SECOND, RECORD.started), ran=ran * SECOND)
    assert exits.lived(RECORD, status) == ran * SECOND
    expected = restart.FIRST if ran > 10 else 4 * restart.FIRST
    assert restart.next_delay(2 * restart.FIRST, exits.lived(RECORD, status)) == expected


def test_a_shim_that_does_not_tell_is_taken_at_the_clocks_word():
    assert exits.lived(RECORD, ExitStatus(0, 1_003 * SECOND)) == 3 * SECOND
    assert exits.lived(RECORD, ExitStatus(0, 900 * SECOND)) == 0
