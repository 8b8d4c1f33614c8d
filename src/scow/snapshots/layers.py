"""Chain ids: the name of a stack of layers (image-spec 1.1 config.md "Layer ChainID")."""

import hashlib
from collections.abc import Sequence

from scow.oci.digest import Digest


def chain_ids(diff_ids: Sequence[Digest]) -> list[str]:
    """The chain id of every height of the stack `diff_ids`, from the bottom up.

    ChainID(L₀) = DiffID(L₀); ChainID(L₀|…|Lₙ) = sha256(ChainID(L₀|…|Lₙ₋₁) + " " + DiffID(Lₙ)).
    """
    found: list[str] = []
    for diff_id in diff_ids:
        if not found:
            found.append(str(diff_id))
        else:
            found.append(f"sha256:{hashlib.sha256(f'{found[-1]} {diff_id}'.encode()).hexdigest()}")
    return found


def chain_id(diff_ids: Sequence[Digest]) -> str:
    """The chain id of the whole stack: the name its snapshot is committed under; empty for no layers at all."""
    return chain_ids(diff_ids)[-1] if diff_ids else ""
