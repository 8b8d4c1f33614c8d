"""``--change``: Dockerfile instructions applied to the config of an image that is imported or committed."""

from collections.abc import Mapping, Sequence
from typing import Any

from scow.build.dockerfile.instructions import instructions_of
from scow.build.dockerfile.parser import parse
from scow.build.state import StageState
from scow.errors import InvalidArgument

#: Instructions that only change the config, in Docker's selection.
ALLOWED = frozenset(
    {"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "stopsignal", "user", "volume", "workdir"}
)
MAX_CHANGES = 1000


def changed(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """`config` (a ContainerConfig as JSON) after `changes`, one or more instructions a text.

    Raises:
        InvalidArgument: "FROM is not a valid change command", or an instruction that is malformed.
    """
    if not changes:
        return dict(config)
    tree = parse("\n".join(changes[:MAX_CHANGES]).encode())
    for node in tree.nodes:
        if node.keyword not in ALLOWED:
            raise InvalidArgument(f"{node.keyword.upper()} is not a valid change command")
    state = StageState(config, "", {}, {}, tree.escape)
    state.config = dict(config)  # without the default PATH a build would begin with
    for instruction in instructions_of(tree):
        state.apply(instruction)
    return state.config
