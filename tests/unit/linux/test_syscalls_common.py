"""The number notation and the numbers shared by all architectures."""

import pytest

from scow.linux.syscalls_aarch64 import NUMBERS as AARCH64
from scow.linux.syscalls_arm import NUMBERS as ARM
from scow.linux.syscalls_common import SHARED, expand
from scow.linux.syscalls_i386 import NUMBERS as I386
from scow.linux.syscalls_x86_64 import NUMBERS as X86_64


def test_a_number_starts_a_run():
    assert expand("3 a b\n 0x10 c 16 d") == {"a": 3, "b": 4, "c": 16, "d": 16}


def test_shared_numbers_begin_at_424_and_have_no_hole_but_memfd_secret():
    numbers = expand(SHARED)
    assert min(numbers.values()) == 424
    assert set(range(424, max(numbers.values()) + 1)) - set(numbers.values()) == {447}
    assert numbers["clone3"] == 435
    assert numbers["cachestat"] == 451
    assert numbers["mseal"] == 462
    assert numbers["file_setattr"] == 469


@pytest.mark.parametrize("table", [X86_64, I386, AARCH64, ARM])
def test_every_table_holds_them(table):
    assert expand(SHARED).items() <= table.items()
