"""The grammar of Go's pflag."""

import pytest

from scow.cli.flags import KINDS, Command, Flag, Misuse, nano_cpus, parse
from scow.errors import InvalidArgument

FLAGS = (
    Flag("all", "bool", "", short="a"),
    Flag("env", "list", "", short="e"),
    Flag("filter", "filter", "", short="f"),
    Flag("memory", "bytes", "", short="m"),
    Flag("number", "int", "", short="n", default=-1),
    Flag("names", "strings", ""),
    Flag("opt", "map", "", short="o"),
    Flag("pull", "bool", "", default=True),
    Flag("weight", "uint16", ""),
    Flag("wait", "duration", ""),
)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-a"], "all", True),
        (["--all=false"], "all", False),
        (["-a=0"], "all", False),
        (["--pull=f"], "pull", False),
        (["-n5"], "number", 5),
        (["-n=5"], "number", 5),
        (["-n", "-5"], "number", -5),
        (["--number", "0x10"], "number", 16),
        ([], "number", -1),
        (["-ae", "x", "-ey", "--env=z"], "env", ["x", "y", "z"]),
        (["-e", "--all"], "env", ["--all"]),
        (["-m", "1.5g"], "memory", 1610612736),
        (["--names", "a,b", "--names=c"], "names", ["a", "b", "c"]),
        (["--names", '"a,b",c'], "names", ["a,b", "c"]),
        (["-o", "k=v=w", "-o", "x"], "opt", [("k", "v=w"), ("x", "")]),
        (["-f", " Label = a=b "], "filter", [("label", "a=b")]),
        (["--wait", "1m30s"], "wait", 90_000_000_000),
    ],
)
def test_values(words: list[str], name: str, value: object) -> None:
    assert parse(FLAGS, words).options.raw(name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--nope=1"], "unknown flag: --nope"),
        (["-ax"], "unknown shorthand flag: 'x' in -ax"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["--env"], "flag needs an argument: --env"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---all"], "bad flag syntax: ---all"),
        (
            ["-a=maybe"],
            'invalid argument "maybe" for "-a, --all" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["-n", "x"], 'invalid argument "x" for "-n, --number" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["-n", ""], 'invalid argument "" for "-n, --number" flag: strconv.ParseInt: parsing "": invalid syntax'),
        (["-m", "zz"], 'invalid argument "zz" for "-m, --memory" flag: invalid size: \'zz\''),
        (
            ["--weight", "70000"],
            'invalid argument "70000" for "--weight" flag: strconv.ParseUint: parsing "70000": value out of range',
        ),
        (["--weight", "-1"], "invalid syntax"),
        (["-f", "x"], 'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)'),
        (["--wait", "5"], 'time: invalid duration "5"'),
    ],
)
def test_refusals_in_pflags_words(words: list[str], message: str) -> None:
    with pytest.raises(Misuse) as caught:
        parse(FLAGS, words)
    assert message in str(caught.value)


def test_where_flags_end() -> None:
    mixed = parse(FLAGS, ["x", "-a", "--", "-e"])
    assert (mixed.arguments, mixed.options.on("all")) == (["x", "-e"], True)
    strict = parse(FLAGS, ["-a", "sh", "-c", "-e"], interspersed=False)
    assert strict.arguments == ["sh", "-c", "-e"]
    assert parse(FLAGS, ["-", "-a"]).arguments == ["-"]


def test_help_is_asked_for_anywhere_flags_are_read() -> None:
    assert parse(FLAGS, ["x", "--help"]).help
    assert parse(FLAGS, ["-h"]).help
    assert not parse(FLAGS, ["x", "--help"], interspersed=False).help


def test_h_may_mean_something_else() -> None:
    command = Command("", "", flags=(Flag("hostname", "string", "", short="h"),))
    parsed = parse(command.flags, ["-h", "box", "--help"])
    assert (parsed.options.text("hostname"), parsed.help) == ("box", True)


def test_defaults_are_not_shared_between_parses() -> None:
    parse(FLAGS, ["-e", "x"]).options.items("env").append("y")
    assert parse(FLAGS, []).options.items("env") == []
    assert KINDS["list"].zero == []


def test_cpus_are_exact() -> None:
    assert [nano_cpus(text) for text in ("1.5", "2", ".5", "-1", "0.000000001")] == [
        1_500_000_000,
        2_000_000_000,
        500_000_000,
        -1_000_000_000,
        1,
    ]
    for text in ("x", "", "1.0000000001", "1e9", "."):
        with pytest.raises(InvalidArgument):
            nano_cpus(text)
