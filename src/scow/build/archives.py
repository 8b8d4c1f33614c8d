"""Whether a file is a tar, packed or not: what ADD unpacks and a remote context may be. Blocking."""

from typing import BinaryIO

from scow.errors import DataLoss, InvalidArgument
from scow.snapshots.compression import unpacked

_HEADER = 512


def is_tar(head: bytes) -> bool:
    """Whether unpacked data begins with a tar header: its checksum is right."""
    if len(head) < _HEADER or not any(head):
        return False
    try:
        stored = int(head[148:156].replace(b"\0", b" ").strip(), 8)
    except ValueError:
        return False
    return stored == sum(head[:148]) + 8 * 0x20 + sum(head[156:_HEADER])


def is_archive(stream: BinaryIO) -> bool:
    """Whether `stream` is a tar, packed or not; it is left anywhere."""
    reader = unpacked(stream)
    head = b""
    try:
        while len(head) < _HEADER and (piece := reader.read(_HEADER - len(head))):
            head += piece
    except (InvalidArgument, DataLoss):
        return False
    return is_tar(head)
