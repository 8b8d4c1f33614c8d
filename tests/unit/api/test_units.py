from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.api import units
from scow.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 << 20), ("1.5g", 3 << 29), ("1024", 1024), ("64KiB", 65536), ("10kb", 10240), ("7b", 7), ("0", 0)],
)
def test_parse_bytes(text, size):
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1..5g", "0x10", "1e9", "²k"])
def test_bad_sizes(text):
    with pytest.raises(InvalidArgument, match="invalid size"):
        units.parse_bytes(text)


def test_human_sizes():
    assert units.human_size(0) == "0B"
    assert units.human_size(4_270_000) == "4.27MB"
    assert units.human_size(999) == "999B"
    assert units.binary_size(1536) == "1.5KiB"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1h30m", 5400 * 10**9), ("1.5s", 1_500_000_000), ("300ms", 300_000_000), ("-2m", -120 * 10**9), ("0", 0)],
)
def test_durations(text, value):
    assert units.parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1h-3m", "1..2s", "9" * 100])
def test_bad_durations(text):
    with pytest.raises(InvalidArgument, match="invalid duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (61, "About a minute"), (120, "2 minutes"),
        (3600, "About an hour"), (3 * 3600, "3 hours"), (50 * 3600, "2 days"), (20 * 86400, "2 weeks"),
        (70 * 86400, "2 months"), (3 * 365 * 86400, "3 years"),
    ],
)  # fmt: skip
def test_human_durations(seconds, text):
    assert units.human_duration(seconds * units.SECOND) == text


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1)))
def test_times_survive_a_round_trip(moment):
    stamp = int(moment.replace(tzinfo=UTC, microsecond=0).timestamp()) * units.SECOND + moment.microsecond * 1000
    assert units.parse_rfc3339(units.rfc3339(stamp)) == stamp


def test_rfc3339_forms():
    assert units.rfc3339(0) == units.ZERO_TIME
    assert units.rfc3339(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert units.parse_rfc3339("2023-11-14T23:13:20+01:00") == 1_700_000_000 * units.SECOND
    assert units.parse_rfc3339("2023-11-14") == 1_699_920_000 * units.SECOND


def test_points_in_time():
    assert units.parse_time("1136073600.000000001") == 1136073600 * units.SECOND + 1
    assert units.parse_time("10m", now=700 * units.SECOND) == 100 * units.SECOND
    assert units.parse_time("1970-01-01T00:01:00Z") == 60 * units.SECOND


@pytest.mark.parametrize("text", ["yesterday", "2023-13-01", "2023-01-01T25:00:00Z", "1.2.3", "", "2023-01-01Tx"])
def test_bad_times(text):
    with pytest.raises(InvalidArgument):
        units.parse_time(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0s"), (1, "1ns"), (1500, "1.5µs"), (100_000_000, "100ms"), (30 * 10**9, "30s"), (1_500_000_000, "1.5s"),
        (90 * 10**9, "1m30s"), (3600 * 10**9, "1h0m0s"), (3_723_040_000_000, "1h2m3.04s"),
    ],
)  # fmt: skip
def test_durations_as_go_prints_them(duration, text):
    assert units.go_duration(duration) == text
