"""Unpacking: every kind, in pieces, cut off, damaged, and bombs."""

import bz2
import collections
import gzip
import io
import lzma
import os

import pytest
import zstandard

from scow.errors import DataLoss, InvalidArgument
from scow.snapshots.compression import sniff, unpacked

DATA = os.urandom(300_000) + bytes(700_000)
PACK = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_every_kind(kind: str, step: int) -> None:
    packed = PACK[kind](DATA)
    stream = unpacked(io.BytesIO(packed))
    assert b"".join(iter(lambda: stream.read(step), b"")) == DATA
    assert (stream.compression, stream.packed, stream.size) == (kind, len(packed), len(DATA))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_members_after_one_another(kind: str) -> None:
    packed = PACK[kind](DATA)
    assert unpacked(io.BytesIO(packed + packed)).read() == DATA + DATA


def test_padding_after_gzip() -> None:
    assert unpacked(io.BytesIO(gzip.compress(b"x") + bytes(10_000))).read() == b"x"


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("cut", [20, 200_000, -1])
def test_cut_off(kind: str, cut: int) -> None:
    with pytest.raises(DataLoss, match="ends in the middle"):
        unpacked(io.BytesIO(PACK[kind](DATA)[:cut])).read()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_damaged(kind: str) -> None:
    packed = bytearray(PACK[kind](DATA))
    packed[20:60] = os.urandom(40)
    with pytest.raises((InvalidArgument, DataLoss)):
        unpacked(io.BytesIO(bytes(packed))).read()


def test_a_checksum_that_is_wrong() -> None:
    packed = bytearray(gzip.compress(DATA))
    packed[-6] ^= 1
    with pytest.raises((InvalidArgument, DataLoss)):
        unpacked(io.BytesIO(bytes(packed))).read()


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz"])
def test_a_bomb_is_refused_and_never_all_in_memory(kind: str) -> None:
    bomb = PACK[kind](bytes(300 << 20))
    stream = unpacked(io.BytesIO(bomb), ratio=20)
    assert len(stream.read(1 << 30)) <= 1 << 20
    with pytest.raises(InvalidArgument, match="more than 20 times"):
        collections.deque(iter(lambda: stream.read(1 << 20), b""), maxlen=1)
    assert stream.size < 80 << 20


def test_sniffing() -> None:
    assert [sniff(PACK[kind](b"x")) for kind in PACK] == list(PACK)
    assert unpacked(io.BytesIO(b"")).read() == b""
