"""Which warden gets the next container, and when a container is given to one."""

from scow.keeper.wardens import MOST_DOUBLED, fullest, quiet_time


def test_the_fullest_with_room_is_taken() -> None:
    assert fullest([], 32) is None
    assert fullest([32, 32], 32) is None
    assert fullest([3, 31, 32, 7], 32) == 1
    assert fullest([5, 5], 32) == 0
    assert fullest([0], 1) == 0


def test_who_comes_back_has_to_be_quiet_for_longer() -> None:
    assert [quiet_time(5, returned) for returned in range(4)] == [5, 10, 20, 40]
    assert quiet_time(5, 1000) == 5 * 2**MOST_DOUBLED
