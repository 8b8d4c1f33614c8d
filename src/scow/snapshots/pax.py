"""Pax records: the extended headers of tar (POSIX.1-2001 pax "Extended Header", GNU's sparse formats, libarchive's
attributes).

Pure functions on bytes; sizes were bounded by the caller, contents are hostile.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

from scow.errors import InvalidArgument

SCHILY_XATTR = "SCHILY.xattr."
LIBARCHIVE_XATTR = "LIBARCHIVE.xattr."
MAX_SEGMENTS = 1 << 20
"""Data runs of one sparse file."""

NO_ID = (1 << 32) - 1

Records = list[tuple[str, bytes]]
Segments = list[tuple[int, int]]


def parse_records(data: bytes) -> Records:
    """The (keyword, value) pairs in an extended header, in order; keywords may repeat.

    Raises:
        InvalidArgument: a record's length does not fit.
    """
    found: Records = []
    position = 0
    while position < len(data):
        if data[position] == 0:  # some writers pad with NUL
            break
        space = data.find(b" ", position, position + 12)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise InvalidArgument("archive has a broken extended header: a record does not begin with its length")
        end = position + int(digits)
        if end > len(data) or end <= space + 1 or data[end - 1] != 0x0A:
            raise InvalidArgument("archive has a broken extended header: a record is longer or shorter than it says")
        keyword, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not keyword or b"\0" in keyword:
            raise InvalidArgument("archive has a broken extended header: a record without a keyword")
        found.append((decode(keyword), value))
        position = end
    return found


def format_records(records: Iterable[tuple[str, bytes]]) -> bytes:
    """The extended header holding `records`."""
    out = bytearray()
    for keyword, value in records:
        body = b" " + encode(keyword) + b"=" + value + b"\n"
        length = len(body) + len(str(len(body)))
        if len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        out += str(length).encode() + body
    return bytes(out)


def decode(data: bytes) -> str:
    """A name as the rest of the engine handles it: bytes that are no UTF-8 survive the round trip."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a name."""
    return text.encode("utf-8", "surrogateescape")


def seconds_to_ns(value: bytes) -> int:
    """``b"1700000000.123456789"`` as nanoseconds; digits beyond the ninth are dropped.

    Raises:
        InvalidArgument: not a decimal number, or outside ±2⁶³ ns, which is as far as files' times go.
    """
    text = value.decode("ascii", "replace").strip()
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("+-").partition(".")
    if (
        not (whole or fraction)
        or not (whole or "0").isdecimal()
        or not (fraction or "0").isdecimal()
        or len(whole) > 19
    ):
        raise InvalidArgument(f"archive has a time that is no number: {text[:40]!r}")
    ns = int(whole or 0) * 10**9 + int((fraction + "0" * 9)[:9])
    if ns >= 1 << 63:
        raise InvalidArgument(f"archive has a time no file can have: {text[:40]!r}")
    return -ns if negative else ns


def ns_to_seconds(ns: int) -> bytes:
    """Nanoseconds as a pax time."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    whole, fraction = divmod(ns, 10**9)
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{sign}{whole}{tail}".encode()


def whole_number(value: bytes, what: str, bits: int = 63) -> int:
    """The decimal number in `value`.

    Raises:
        InvalidArgument: not digits only, or 2**bits and more.
    """
    text = value.strip()
    if not text.isdigit() or len(text) > 20 or (number := int(text)) >= 1 << bits:
        raise InvalidArgument(f"archive has a {what} that is no number or too big: {text[:40]!r}")
    return number


def identity(value: bytes, what: str) -> int:
    """A user or group id: under 2³² - 1, which means "none" to the kernel.

    Raises:
        InvalidArgument: anything else.
    """
    number = whole_number(value, what)
    if number >= NO_ID:
        raise InvalidArgument(f"archive has an {what} no file can have: {number}")
    return number


def libarchive_xattr(keyword: str, value: bytes) -> tuple[str, bytes]:
    """Name and value of a ``LIBARCHIVE.xattr.`` record: the name is URL-encoded, the value base64."""
    name = decode(unquote_to_bytes(keyword[len(LIBARCHIVE_XATTR) :]))
    try:
        return name, base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise InvalidArgument(f"archive has an attribute {name[:80]!r} that is not base64") from None


def sparse_map(records: Sequence[tuple[str, bytes]]) -> Segments | None:
    """The data runs of GNU sparse formats 0.0 (repeated offset and numbytes) and 0.1 (one map); None: neither.

    Raises:
        InvalidArgument: offsets and lengths do not pair up.
    """
    numbers: list[int] = []
    seen = False
    for keyword, value in records:
        if keyword == "GNU.sparse.map":
            seen = True
            parts = value.split(b",") if value else []
            if len(parts) > 2 * MAX_SEGMENTS:
                raise InvalidArgument("archive has a sparse file of too many parts")
            numbers = [whole_number(part, "sparse map entry") for part in parts]
        elif keyword in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            seen = True
            if (keyword == "GNU.sparse.offset") != (len(numbers) % 2 == 0):
                raise InvalidArgument("archive has a sparse map whose offsets and lengths do not pair up")
            numbers.append(whole_number(value, "sparse map entry"))
        elif keyword == "GNU.sparse.numblocks":
            seen = True
    if not seen:
        return None
    if len(numbers) % 2:
        raise InvalidArgument("archive has a sparse map whose offsets and lengths do not pair up")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def check_segments(segments: Segments, size: int, packed: int) -> None:
    """Refuse a sparse map that is unsorted, overlaps, exceeds the file's `size` or does not use `packed` bytes of data.

    Raises:
        InvalidArgument: any of these.
    """
    end = total = 0
    for offset, length in segments:
        if offset < end or offset + length > size:
            raise InvalidArgument("archive has a sparse map that overlaps or goes beyond the file")
        end = offset + length
        total += length
    if total != packed:
        raise InvalidArgument(f"archive has a sparse map for {total} bytes but stores {packed}")
