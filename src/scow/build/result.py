"""What a step leaves: files, history, config; and the image it would be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scow.build.cache import Record
from scow.build.graph import Step
from scow.images.image import Image
from scow.oci.config import History, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest, digest_of
from scow.oci.platform import Platform
from scow.snapshots.layers import chain_id

#: Comment of history entries, by which tools tell images whose ``created_by`` is in BuildKit's style.
COMMENT = "buildkit.dockerfile.v0"

#: Field of the image config that holds the cache key of every history entry, for ``--cache-from``.
KEYS_FIELD = "scow.build.keys"


@dataclass(frozen=True, slots=True)
class State:
    """A stage after one of its steps.

    Attributes:
        chain: chain id of the files, "" for none.
        layers: descriptor and diff id of each layer, bottom first.
        keys: cache key of each history entry, "" where there is none.
        image: the image this is, while nothing was changed.
    """

    chain: str = ""
    layers: tuple[tuple[Descriptor, Digest], ...] = ()
    history: tuple[History, ...] = ()
    keys: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    author: str = ""
    created: str | None = None
    image: Image | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def from_image(image: Image, step: Step) -> State:
    """FROM an image: its layers and history, the config as planned (triggers taken out)."""
    config = image.config
    keys = config.extra.get(KEYS_FIELD)
    known = tuple(str(key) for key in keys) if isinstance(keys, list) and len(keys) == len(config.history) else ()
    return State(
        image.top or chain_id(config.diff_ids),
        tuple(zip(image.layers, config.diff_ids, strict=True)),
        config.history,
        known or ("",) * len(config.history),
        step.config,
        step.author,
        config.created,
        image,
        {key: value for key, value in config.extra.items() if key != KEYS_FIELD},
    )


def extended(parent: State, step: Step, record: Record) -> State:
    """`parent` after `step`, of which `record` tells the layer and the time."""
    layers = parent.layers
    if record.layer is not None and record.diff_id is not None:
        layers = (*layers, (record.layer, record.diff_id))
    history, keys = parent.history, parent.keys
    if step.created_by:
        entry = History(record.created, step.created_by, step.author, COMMENT, record.layer is None)
        history, keys = (*history, entry), (*keys, record.key)
    return replace(
        parent,
        chain=record.chain,
        layers=layers,
        history=history,
        keys=keys,
        config=step.config,
        author=step.author,
        created=record.created,
        image=None,
    )


def image_config(state: State, platform: Platform) -> ImageConfig:
    """The config of the image that `state` is."""
    return ImageConfig(
        platform.architecture,
        platform.os,
        platform.variant,
        state.created,
        state.author,
        state.config,
        tuple(diff_id for _, diff_id in state.layers),
        state.history,
        platform.os_version,
        {**state.extra, **({KEYS_FIELD: list(state.keys)} if any(state.keys) else {})},
    )


def image_id(state: State, platform: Platform) -> str:
    """The id the image would have."""
    if state.image is not None:
        return str(state.image.id)
    return str(digest_of(image_config(state, platform).to_bytes()))


def importable(image: Image) -> list[Record]:
    """The steps an image of ``--cache-from`` brings, as cache records: those whose keys its builder left in it."""
    config = image.config
    keys = config.extra.get(KEYS_FIELD)
    if not isinstance(keys, list) or len(keys) != len(config.history):
        return []
    records: list[Record] = []
    diff_ids: list[Digest] = []
    for entry, key in zip(config.history, keys, strict=True):
        layer: tuple[Descriptor | None, Digest | None] = (None, None)
        if not entry.empty_layer:
            if len(diff_ids) >= min(len(config.diff_ids), len(image.layers)):
                return records
            layer = (image.layers[len(diff_ids)], config.diff_ids[len(diff_ids)])
            diff_ids.append(config.diff_ids[len(diff_ids)])
        if isinstance(key, str) and key and entry.created:
            size = layer[0].size if layer[0] else 0
            records.append(
                Record(key, *layer, chain_id(diff_ids), entry.created, description=entry.created_by, size=size)
            )
    return records


def matching_command(images: Sequence[Image], parent: State, step: Step) -> Record | None:
    """The layer of a foreign image whose history went the same way: same layers so far, then the same RUN.

    The classic builder's rule for ``--cache-from``. Commands only: the history of a COPY does not tell the content.
    """
    below = tuple(diff_id for _, diff_id in parent.layers)
    for image in images:
        config = image.config
        if config.diff_ids[: len(below)] != below or len(config.diff_ids) <= len(below):
            continue
        commands = [entry for entry in config.history if not entry.empty_layer]
        if len(commands) != len(config.diff_ids):
            continue
        entry = commands[len(below)]
        if _command(entry.created_by) == _command(step.created_by) and entry.created:
            layer, diff_id = image.layers[len(below)], config.diff_ids[len(below)]
            chain = chain_id((*below, diff_id))
            return Record("", layer, diff_id, chain, entry.created, entry.created_by, layer.size)
    return None


def _command(created_by: str) -> str:
    """A RUN's history text without what differs between builders."""
    return created_by.removesuffix(" # buildkit").removeprefix("RUN ").strip()
