"""Docker's journald driver: entries in systemd's journal, by its native protocol.

An entry is one datagram of ``KEY=value\\n`` lines; a value with newlines is ``KEY\\n``, its length (u64,
little-endian), the value, ``\\n``. One too large for a datagram goes as a sealed memfd. https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scow.logs.remote import Line

SOCKET = "/run/systemd/journal/socket"
_LENGTH = struct.Struct("<Q")
#: syslog's severities: stdout is information, stderr an error.
_PRIORITY = (b"6", b"6", b"3")
_SEALS = 0xF  # F_SEAL_SEAL | SHRINK | GROW | WRITE
_F_ADD_SEALS = 1033


class JournalSender:
    """Sends to the journal of this machine.

    Args:
        told: "id", "name", "image" and "tag" of the container.
        attributes: what labels and env picked.
    """

    __slots__ = ("_always", "_socket")

    def __init__(self, told: Mapping[str, str], attributes: Mapping[str, str]) -> None:
        fields = {
            "CONTAINER_ID": told["id"][:12],
            "CONTAINER_ID_FULL": told["id"],
            "CONTAINER_NAME": told["name"],
            "CONTAINER_TAG": told["tag"],
            "IMAGE_NAME": told["image"],
            "SYSLOG_IDENTIFIER": told["tag"],
            "CONTAINER_LOG_EPOCH": os.urandom(32).hex(),
            **_extra(attributes),
        }
        self._always = b"".join(_field(name, value.encode("utf-8", "replace")) for name, value in fields.items())
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Raises OSError if there is no journal."""
        self.close()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.settimeout(10)
            made.connect(SOCKET)
        except FileNotFoundError:
            made.close()
            raise OSError(errno.ENOENT, "journald is not enabled on this host") from None
        except OSError:
            made.close()
            raise
        self._socket = made

    def send(self, line: Line) -> None:
        """One entry."""
        second, fraction = divmod(line.time_ns, 1_000_000_000)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:09d}Z".encode()
        entry = [
            _field("MESSAGE", line.data),
            _field("PRIORITY", _PRIORITY[line.stream]),
            _field("SYSLOG_TIMESTAMP", stamp),
            self._always,
        ]
        if line.part is not None:
            name, number, last = line.part
            if not last:
                entry.append(_field("CONTAINER_PARTIAL_MESSAGE", b"true"))
            entry.append(_field("CONTAINER_PARTIAL_ID", name.encode()))
            entry.append(_field("CONTAINER_PARTIAL_ORDINAL", b"%d" % number))
            entry.append(_field("CONTAINER_PARTIAL_LAST", b"true" if last else b"false"))
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        data = b"".join(entry)
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_large(self._socket, data)

    def _send_large(self, end: socket.socket, data: bytes) -> None:
        fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            socket.send_fds(end, [b""], [fd])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let the socket go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), _LENGTH.pack(len(value)), value)
    return b"%b=%b\n" % (name.encode(), value)


def _extra(attributes: Mapping[str, str]) -> dict[str, str]:
    """What labels and env picked, under names the journal accepts: capitals, digits and underscores."""
    found = {}
    for name, value in attributes.items():
        key = "".join(each if each.isascii() and each.isalnum() else "_" for each in name.upper()).lstrip("_0123456789")
        if name != "tag" and key:
            found[key[:64]] = value
    return found
