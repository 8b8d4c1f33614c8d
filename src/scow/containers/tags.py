"""Log tags: ``--log-opt tag="{{.ImageName}}/{{.Name}}"``, Go templates over what Docker tells of a container.

Fields, ``index .ContainerLabels "name"``, the functions json, upper, lower and title, and pipes between them; the full
language is the command line's, where templates are written by hand.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping

from scow.containers.container import Record
from scow.errors import InvalidArgument

Fields = Mapping[str, str | Mapping[str, str]]

#: What stands for a container where no tag was chosen.
DEFAULT = "{{.ID}}"

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_INDEX = re.compile(r'index\s+\.(\w+)\s+"([^"]*)"')
_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "json": json.dumps,
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
}


def fields(record: Record, daemon: str = "scow") -> Fields:
    """What a tag may name, for one container."""
    config = record.config
    image_id = record.image_id
    labels = config.labels or {}
    return {
        "ID": record.id[:12],
        "FullID": record.id,
        "ContainerID": record.id,
        "Name": record.name,
        "ContainerName": f"/{record.name}",
        "ImageID": image_id.removeprefix("sha256:")[:12],
        "ImageFullID": image_id,
        "ContainerImageID": image_id,
        "ImageName": record.image_ref,
        "ContainerImageName": record.image_ref,
        "DaemonName": daemon,
        "Hostname": socket.gethostname(),
        "Command": " ".join([record.path, *record.args]),
        "ContainerEntrypoint": record.path,
        "ContainerLabels": labels,
        "Config": record.host.log_config.config,
    }


def check(text: str) -> None:
    """Refuse a tag that cannot be rendered.

    Raises:
        InvalidArgument: with the part that is not understood.
    """
    for action in _ACTION.findall(text):
        _parse(action)
    rest = _ACTION.sub("", text)
    if "{{" in rest:
        raise InvalidArgument(f"log-opt tag: unclosed action in template {text!r}")


def render(text: str, values: Fields) -> str:
    """The tag for a container with these fields.

    Raises:
        InvalidArgument: as `check`.
    """
    return _ACTION.sub(lambda match: _parse(match[1])(values), text)


def _parse(action: str) -> Callable[[Fields], str]:
    first, *pipes = [part.strip() for part in action.split("|")]
    words = first.split()
    if len(words) == 2 and words[0] in _FUNCTIONS:
        pipes.insert(0, words[0])
        first = words[1]
    index = _INDEX.fullmatch(first)
    name = index[1] if index else first.removeprefix(".")
    known = name in _NAMES and (first.startswith(".") or index)
    if not known or any(pipe not in _FUNCTIONS for pipe in pipes):
        raise InvalidArgument(
            f"log-opt tag: cannot read the template {{{{{action}}}}}: fields are .{', .'.join(sorted(_NAMES))}; "
            f"functions are index, {', '.join(_FUNCTIONS)}"
        )

    def value(values: Fields) -> str:
        found = values[name]
        text = found.get(index[2], "") if index and not isinstance(found, str) else found
        text = text if isinstance(text, str) else f"map[{' '.join(f'{k}:{text[k]}' for k in sorted(text))}]"
        for pipe in pipes:
            text = _FUNCTIONS[pipe](text)
        return text

    return value


_NAMES = frozenset(
    {
        "ID", "FullID", "ContainerID", "Name", "ContainerName", "ImageID", "ImageFullID", "ContainerImageID",
        "ImageName", "ContainerImageName", "DaemonName", "Hostname", "Command", "ContainerEntrypoint",
        "ContainerLabels", "Config",
    }
)  # fmt: skip
