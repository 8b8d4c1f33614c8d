"""``docker history``: how an image came about, newest step first."""

from collections.abc import Callable
from typing import Any

from scow.images.image import Image, seconds
from scow.oci.reference import Reference
from scow.snapshots.layers import chain_ids


def history(image: Image, usage: Callable[[str], int]) -> list[dict[str, Any]]:
    """The steps as API ImageHistoryResponseItem; `usage` gives the bytes of a chain id's snapshot.

    Layers without a history entry (hand-made images) are shown as steps without a command.
    """
    chain = chain_ids(image.config.diff_ids)
    items: list[dict[str, Any]] = []
    height = 0
    for step in image.config.history:
        size = 0
        if not step.empty_layer and height < len(chain):
            size = usage(chain[height])
            height += 1
        items.append(_item(seconds(step.created), step.created_by, step.comment, size))
    items += [_item(0, "", "", usage(name)) for name in chain[height:]]
    items.reverse()
    if items:
        items[0]["Id"] = str(image.id)
        items[0]["Tags"] = [Reference.parse(name).familiar() for name in image.names] or None
    return items


def _item(created: float, created_by: str, comment: str, size: int) -> dict[str, Any]:
    return {
        "Id": "<missing>",
        "Created": int(created),
        "CreatedBy": created_by,
        "Tags": None,
        "Size": size,
        "Comment": comment,
    }
