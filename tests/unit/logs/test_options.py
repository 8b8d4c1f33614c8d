"""Log options: defaults, sizes, Docker's refusals, and attributes."""

import pytest

from scow.errors import InvalidArgument
from scow.logs.options import attributes, check_names, limits


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
