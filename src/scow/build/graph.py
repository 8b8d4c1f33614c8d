"""The plan of a build as data: a graph of steps, each naming its parent, its inputs and the config it leaves.

`stages.plan` makes it, ``cachekey`` names its steps, ``solve`` executes it. Everything is expanded and decided here;
what is left open is only what files contain and what commands print. Pure data.
"""

from dataclasses import dataclass
from typing import Any

from scow.build.dockerfile.mounts import Mount

#: `Copy.origin` and `PlannedMount.origin` for "the build context".
CONTEXT = -1


@dataclass(frozen=True, slots=True)
class ImageOp:
    """Begin with an image's layers; `platform` is "" for the build's own."""

    reference: str
    platform: str = ""


@dataclass(frozen=True, slots=True)
class ScratchOp:
    """Begin with nothing."""


@dataclass(frozen=True, slots=True)
class StageOp:
    """Go on from another stage (the parent)."""


@dataclass(frozen=True, slots=True)
class ConfigOp:
    """Change the config only; the files stay."""


@dataclass(frozen=True, slots=True)
class FolderOp:
    """WORKDIR: make the folder if it is missing."""

    path: str


@dataclass(frozen=True, slots=True)
class PlannedMount:
    """A ``--mount`` with variables replaced and `from` resolved: a step's id, or CONTEXT (bind) or None."""

    mount: Mount
    origin: int | None = None


@dataclass(frozen=True, slots=True)
class RunOp:
    """A command to run; `script` is a here-document with a shebang, run as a file."""

    command: tuple[str, ...]
    environment: tuple[str, ...]  # NAME=value: the config's and the arguments in effect, in this order
    hidden: tuple[str, ...]  # NAME=value: proxy settings, which neither the key nor the history may hold
    user: str
    folder: str
    mounts: tuple[PlannedMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    script: tuple[str, str] | None = None  # (file name, content)


@dataclass(frozen=True, slots=True)
class CopyOp:
    """Files to bring in; `files` are here-documents (name, content), which come after `sources`."""

    sources: tuple[str, ...]
    target: str  # absolute; ends in "/" when it must be a folder
    origin: int = CONTEXT
    add: bool = False
    files: tuple[tuple[str, str], ...] = ()
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    parents: bool = False
    keep_git_dir: bool = False
    unpack: bool | None = None
    excludes: tuple[str, ...] = ()


Op = ImageOp | ScratchOp | StageOp | ConfigOp | FolderOp | RunOp | CopyOp


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the graph."""

    id: int
    op: Op
    parent: int | None
    inputs: tuple[int, ...]  # other steps whose files it reads
    config: dict[str, Any]  # Docker's ContainerConfig after the step
    author: str
    created_by: str  # history text; "" leaves no history entry
    empty: bool  # adds no layer (WORKDIR decides when it runs)
    shown: str  # the instruction as progress shows it
    stage: int
    line: int
    note: str = ""  # said before the step: "# Executing 2 build triggers"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in an order in which every parent and input comes first.

    While `missing` is not empty the plan is only as far as it could be made: resolve those images (reference,
    platform) and plan again.
    """

    steps: tuple[Step, ...]
    result: int
    missing: tuple[tuple[str, str], ...] = ()
    preamble: tuple[str, ...] = ()  # ARG instructions before the first FROM, as shown
    warnings: tuple[str, ...] = ()
    epoch: int | None = None  # SOURCE_DATE_EPOCH, seconds
