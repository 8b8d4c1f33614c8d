"""The last move of a build: the state of its result as an image with names."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, cast

from scow.build.result import State, image_config
from scow.build.workplace import Workplace
from scow.images.image import Image
from scow.oci.config import History
from scow.oci.platform import Platform
from scow.oci.reference import Reference
from scow.snapshots.apply import apply
from scow.snapshots.compression import unpacked


def export(work: Workplace, state: State, platform: Platform, names: Sequence[Reference]) -> Image:
    """Write config and manifest, point every name at them. Blocking.

    A build that changed nothing gives the names to its base image.
    """
    if state.image is not None:
        image = state.image
        for name in names:
            image = work.images.tag(str(state.image.id), name)
        return image
    layers = [descriptor for descriptor, _ in state.layers]
    image = work.images.add(image_config(state, platform), layers, names[0] if names else None)
    for name in names[1:]:
        image = work.images.tag(str(image.id), name)
    return image


def squash(work: Workplace, state: State, base: State) -> State:
    """`state` with all layers above `base`'s made one. Blocking.

    The layers are applied on top of each other in a fresh snapshot over the base; the history keeps every entry and
    gains one for the merge, as the classic builder writes it.
    """
    added = state.layers[len(base.layers) :]
    if len(added) < 2:
        return state
    key = work.key(1 << 20)
    work.snapshots.prepare(key, base.chain or None)
    try:
        root_fd = work.snapshots.mount(key)
        try:
            for descriptor, _ in added:
                with work.content.open(descriptor.digest) as blob:
                    apply(cast("BinaryIO", unpacked(blob)), root_fd, whiteouts=True, merged=True)
        finally:
            os.close(root_fd)
        descriptor, diff_id, chain = work.images.add_layer(key)
    except BaseException:
        if work.snapshots.exists(key):
            work.snapshots.remove(key)
        raise
    kept = len(base.history)
    merged = History(state.created, "", "", f"merge {len(added)} layers into one")
    history = (
        *state.history[:kept],
        *(replace(entry, empty_layer=True) for entry in state.history[kept:]),
        merged,
    )
    return replace(
        state, chain=chain, layers=(*base.layers, (descriptor, diff_id)), history=history, keys=("",) * len(history)
    )
