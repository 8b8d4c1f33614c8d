import signal

import pytest

from scow.api.signal import SIGNALS, name_of, parse
from scow.errors import InvalidArgument


def test_numbers_are_the_kernels():
    for name, number in SIGNALS.items():
        if hasattr(signal, "SIG" + name):
            assert getattr(signal, "SIG" + name) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("9", 9), ("RTMIN+3", 37), ("SIGRTMIN", 34), ("RTMAX-1", 63)],
)
def test_names_and_numbers(text, number):
    assert parse(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGFOO", "-9", "RTMIN+99", "9.0", "999999999", "RTMIN-1"])
def test_everything_else_is_refused(text):
    with pytest.raises(InvalidArgument, match="invalid signal"):
        parse(text)


def test_name_of():
    assert name_of(9) == "KILL"
    assert name_of(40) == "40"
