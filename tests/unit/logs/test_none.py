"""The driver that keeps nothing."""

import pytest

from scow.errors import InvalidArgument, Unsupported
from scow.logs.driver import LogConfig
from scow.logs.none import NullWriter
from scow.logs.reader import LogReader


def test_output_is_taken_and_cannot_be_read():
    writer = NullWriter()
    writer.write(1, b"x" * 1000, 0)
    writer.close()
    assert writer.dropped == 0
    with pytest.raises(Unsupported, match="configured logging driver does not support reading"):
        LogReader(LogConfig("none", "/nowhere"))
    with pytest.raises(InvalidArgument, match="pigeon"):
        LogReader(LogConfig("pigeon", "/nowhere"))
