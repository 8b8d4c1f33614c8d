"""Log options: defaults, sizes, Docker's refusals, and attributes."""

import pytest

from scow.errors import InvalidArgument
from scow.logs.options import attributes, buffer_size, cache_disabled, cache_options, check, check_names, limits


def told(driver, **options):
    found = limits(driver, {name.replace("_", "-"): value for name, value in options.items()})
    return found.max_size, found.max_file, found.compress


def test_defaults():
    assert told("local") == (20 << 20, 5, True)
    assert told("json-file") == (0, 1, False)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10", 10),
        ("10b", 10),
        ("10k", 10_000),
        ("10KB", 10_000),
        ("1.5m", 1_500_000),
        ("2 g", 2 * 10**9),
        ("1t", 10**12),
    ],
)
def test_sizes_count_in_thousands(text, size):
    assert told("local", max_size=text)[0] == size


def test_combinations():
    assert told("json-file", max_size="1m", max_file="3", compress="true") == (1_000_000, 3, True)
    assert told("json-file", max_size="-1", max_file="3") == (0, 3, False)
    assert told("local", max_file="1") == (20 << 20, 1, False)
    assert told("local", compress="0", mode="non-blocking", max_buffer_size="4m") == (20 << 20, 5, False)


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("json-file", {"x": "1"}, "unknown log opt 'x' for json-file log driver"),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for local log driver"),
        ("local", {"mode": "fast"}, "logger: logging mode not supported: fast"),
        ("local", {"max-buffer-size": "1m"}, "max-buffer-size option is only supported with 'mode=non-blocking'"),
        ("local", {"max-size": "ten"}, "invalid size: 'ten'"),
        ("local", {"max-size": ""}, "invalid size: ''"),
        ("local", {"max-size": "1x"}, "invalid size"),
        ("local", {"max-size": "-5"}, "invalid size"),
        ("local", {"max-size": "1" * 30}, "invalid size"),
        ("local", {"max-size": "٣"}, "invalid size"),
        ("local", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "many"}, "max-file"),
        ("json-file", {"compress": "perhaps"}, "compress"),
        ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2"),
        ("json-file", {"compress": "true", "max-file": "3"}, "max-size is not set"),
        ("local", {"compress": "true", "max-file": "1"}, "compression cannot be enabled when max file count is 1"),
    ],
)
def test_refusals(driver, options, words):
    with pytest.raises(InvalidArgument, match=words):
        limits(driver, options)


def test_the_driver_none_takes_any_option():
    check_names("none", {"max-size": "1m"})


def test_attributes_are_picked_from_labels_and_environment():
    options = {"labels": "a,missing", "labels-regex": "^app[.]", "env": "HOME", "env-regex": "^LC_", "tag": "web"}
    labels = {"a": "1", "b": "2", "app.name": "x"}
    environment = {"HOME": "/root", "PATH": "/bin", "LC_ALL": "C"}
    wanted = {"a": "1", "app.name": "x", "HOME": "/root", "LC_ALL": "C", "tag": "web"}
    assert attributes(options, labels, environment) == wanted
    assert attributes({}, labels, environment) == {}
    with pytest.raises(InvalidArgument, match="expression"):
        attributes({"env-regex": "("}, {}, {})


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("syslog", {"max-size": "1m"}, "unknown log opt 'max-size' for syslog log driver"),
        ("journald", {"syslog-address": "x"}, "unknown log opt 'syslog-address' for journald log driver"),
        ("syslog", {"syslog-address": "http://x"}, "unsupported scheme: 'http'"),
        ("syslog", {"syslog-address": "localhost:514"}, "unsupported scheme: ''"),
        ("syslog", {"syslog-address": "tcp://host:port"}, "invalid port 'port'"),
        ("syslog", {"syslog-address": "unix:///no/such"}, "stat /no/such: no such file or directory"),
        ("syslog", {"syslog-facility": "local9"}, "invalid syslog facility"),
        ("syslog", {"syslog-facility": "24"}, "invalid syslog facility"),
        ("syslog", {"syslog-format": "rfc1"}, "Invalid syslog format"),
        ("journald", {"cache-max-file": "0"}, "max-file cannot be less than 1"),
        ("syslog", {"cache-disabled": "maybe"}, "invalid value for option cache-disabled: maybe"),
        ("json-file", {"cache-disabled": "maybe"}, "invalid value for option cache-disabled: maybe"),
        ("syslog", {"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
    ],
)
def test_refusals_before_there_is_a_container(driver, options, words):
    with pytest.raises(InvalidArgument, match=words):
        check(driver, options)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("syslog", {"syslog-address": "udp://[::1]:514", "syslog-facility": "23", "syslog-format": "rfc5424micro"}),
        ("syslog", {"syslog-address": "tcp+tls://host", "tag": "x", "labels": "a", "env-regex": "^A"}),
        ("journald", {"cache-disabled": "true", "mode": "non-blocking", "max-buffer-size": "4m"}),
        ("json-file", {"cache-max-size": "1m", "max-size": "1m"}),
        ("none", {}),
    ],
)
def test_what_is_accepted(driver, options):
    check(driver, options)


def test_the_copy_for_readers_has_options_of_its_own():
    options = {"cache-max-size": "1m", "cache-max-file": "2", "cache-compress": "false", "tag": "x"}
    assert cache_options(options) == {"max-size": "1m", "max-file": "2", "compress": "false"}
    assert not cache_disabled(options)
    assert cache_disabled({"cache-disabled": "true"})


def test_what_may_wait():
    assert buffer_size({}) == 0
    assert buffer_size({"mode": "blocking"}) == 0
    assert buffer_size({"mode": "non-blocking"}) == 1_000_000
    assert buffer_size({"mode": "non-blocking", "max-buffer-size": "4m"}) == 4_000_000
