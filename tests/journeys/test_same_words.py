"""The same words to the docker CLI and to ours print the same."""

import json
import re
from collections.abc import Iterator

import pytest

from support.world import DOCKER_CLI, World

pytestmark = [
    pytest.mark.root,
    pytest.mark.peer,
    pytest.mark.skipif(DOCKER_CLI is None, reason="the docker CLI is not installed here"),
]


@pytest.fixture(scope="module")
def both(world: World) -> Iterator[World]:
    world.scow("run", "-d", "--name", "both", "-p", "7401:80", "-v", "bothvol:/v", "busybox", "sh", "-c",
               "echo one; echo two >&2; exec sleep 1000")  # fmt: skip
    yield world
    world.scow("rm", "-f", "-v", "both")
    world.scow("volume", "rm", "bothvol")


def plain(text: str) -> str:
    """What a client prints without its own name and what passes between two calls."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "ID", text)
    text = re.sub(r"\b\d+ (seconds?|minutes?)( ago)?|Less than a second( ago)?|About a minute( ago)?", "AGO", text)
    text = re.sub(r"\b(docker|scow)( run|:)", r"CLI\2", text)
    return re.sub(r"[ -]+", " ", text)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("ps", 0), ("ps -a --no-trunc", 0), ("ps -s", 0), ("ps -q --filter name=both", 0), ("ps --filter x=y", 1),
        ("ps --format table{{.Names}}", 0), ("ps --format {{.Names}}:{{.Ports}}:{{.State}}", 0), ("images", 0),
        ("images --digests --no-trunc", 0), ("images -q", 0), ("image inspect -f {{.Id}} busybox", 0),
        ("history busybox", 0), ("history --no-trunc -q busybox", 0), ("logs both", 0), ("logs --tail 1 both", 0),
        ("port both", 0), ("port both 80", 0), ("port both 81", 1), ("top both -o pid,comm", 0), ("diff both", 0),
        ("inspect -f {{.State.Status}} both", 0), ("inspect nothing", 1),
        ("inspect --type container nothing", 1), ("network ls", 0),
        ("network inspect nothing", 1), ("volume ls", 0), ("volume inspect bothvol", 0), ("volume rm nothing", 1),
        ("rm nothing", 1), ("rm both", 1), ("start nothing", 1), ("stop nothing", 1), ("kill nothing", 1),
        ("exec nothing true", 1), ("exec both sh -c exit\\ 5", 5), ("exec both no-such-program", 127),
        ("run --rm busybox echo hello", 0), ("run --rm busybox no-such-program", 127), ("run --rm busybox /etc", 126),
        ("run --rm --memory 1k busybox", 125), ("rmi nothing", 1),
        ("run --rm --network container:both busybox ip -o -4 addr show eth0", 0), ("system df", 0), ("wait nothing", 1),
        ("run --rm --network nothing busybox", 125), ("pause nothing", 1), ("rename both both", 1),
        ("cp both:/nothing -", 1), ("cp nothing:/x -", 1), ("attach nothing", 1), ("stats --no-stream nothing", 1),
        ("image prune -f", 0), ("volume create bothvol", 0), ("network rm bridge", 1), ("update nothing", 1),
    ],
)  # fmt: skip
def test_the_same_words_print_the_same(both: World, words: str, status: int) -> None:
    arguments = [word.replace("\\ ", " ") for word in re.split(r"(?<!\\) ", words)]
    # The docker CLI repeats some failures in words of its own; the first line is the engine's.
    theirs = plain(both.docker_cli(*arguments, status=status)), plain(both.errors).partition("\n")[0]
    ours = plain(both.scow(*arguments, status=status)), plain(both.errors).partition("\n")[0]
    assert ours == theirs


@pytest.mark.parametrize("words", ["ps", "images", "network ls", "volume ls", "system df"])
def test_rows_as_json_have_the_same_members(both: World, words: str) -> None:
    ask = (*words.split(), "--format", "{{json .}}")
    theirs, ours = both.docker_cli(*ask).splitlines(), both.scow(*ask).splitlines()
    assert [json.loads(line).keys() for line in ours] == [json.loads(line).keys() for line in theirs]
