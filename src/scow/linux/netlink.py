"""rtnetlink on the wire: framing, attributes, acknowledgements, dumps.

This file owns the bytes; what they mean for links and addresses is ``links.py``. A `Request` is plain data (type,
flags, body), so a plan can be built and looked at without a socket. Several requests travel in one datagram: the kernel
handles them in order, inside one system call, and answers each with an acknowledgement.

Nothing here waits: the kernel has answered before ``sendto`` returns.
"""

import _socket
import contextlib
import os
import struct
from collections.abc import Iterator, Sequence

from scow.linux.namespaces import CLONE_NEWNET, setns

NETLINK_ROUTE = 0

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3

NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_AF_NETLINK = 16
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11

#: The kernel fills at most 32 KiB per datagram of a dump; one answer to a request is smaller.
_RECEIVE = 64 << 10
#: Requests per datagram: their acknowledgements must fit the socket's receive buffer (208 KiB, about 900 bytes each).
_BATCH = 64

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")

#: (message type, flags without REQUEST and ACK, body)
Request = tuple[int, int, bytes]


class NetlinkError(OSError):
    """The kernel refused a request; ``strerror`` has its own words where it gave any."""

    def __init__(self, number: int, said: str, what: str) -> None:
        text = os.strerror(number)
        super().__init__(number, f"{what}: {said} ({text})" if said else f"{what}: {text}")


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = 4 + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute in the machine's byte order."""
    return attribute(kind, struct.pack("=I", value))


def name(kind: int, value: str) -> bytes:
    """A NUL-terminated text attribute."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes | memoryview) -> dict[int, bytes]:
    """The attributes in `data` by kind; of a kind given twice the last counts, a torn tail is ignored."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            break
        found[kind & NLA_TYPE_MASK] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


def messages(data: bytes | memoryview) -> Iterator[tuple[int, int, int, bytes]]:
    """Split one datagram: (type, flags, sequence, body) of each message."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > len(data):
            break
        yield kind, flags, sequence, bytes(data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def refusal(flags: int, body: bytes) -> tuple[int, str]:
    """(errno, the kernel's sentence) of an NLMSG_ERROR or of the end of a dump; errno 0 means it was granted."""
    if len(body) < 4:
        return 0, ""
    code = -_ERROR.unpack_from(body)[0]
    said = b""
    if flags & NLM_F_ACK_TLVS and len(body) >= 20:
        echoed = 16 if flags & NLM_F_CAPPED or not code else struct.unpack_from("=I", body, 4)[0]
        said = attributes(body[4 + ((echoed + 3) & ~3) :]).get(NLMSGERR_ATTR_MSG, b"")
    return code, said.rstrip(b"\0").decode("utf-8", "replace")


@contextlib.contextmanager
def inside(netns_fd: int) -> Iterator[None]:
    """Run the block with the calling thread in another network namespace; only that thread moves."""
    own_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(netns_fd, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(own_fd, CLONE_NEWNET)
    finally:
        os.close(own_fd)


class NetlinkSocket:
    """A conversation with one network namespace's routing tables; one thread at a time.

    The socket belongs to the namespace it was opened in, for good: opened inside a sandbox, it may be used from
    anywhere afterwards. As long as it is open the namespace lives.
    """

    __slots__ = ("_buffer", "_sequence", "_socket")

    def __init__(self, netns_fd: int | None = None) -> None:
        """Open a socket in the calling thread's namespace, or in that of `netns_fd` (the thread steps in and back).

        Raises:
            OSError: no permission to enter, or no netlink.
        """
        with inside(netns_fd) if netns_fd is not None else contextlib.nullcontext():
            self._socket = _socket.socket(_AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._sequence = 0
        self._buffer = bytearray(_RECEIVE)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            # Older kernels give plainer errors: errno only.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def close(self) -> None:
        """Let go of the namespace; closing twice is fine."""
        self._socket.close()

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, request: Request, what: str) -> None:
        """Have one request done; `what` names it in the error ("create bridge scow0").

        Raises:
            NetlinkError: refused.
        """
        self.batch([request], what)

    def batch(self, requests: Sequence[Request], what: str) -> None:
        """Have all requests done, in order, in one system call per 64.

        The kernel goes on after a refusal; all answers are collected, then the first refusal is raised.
        """
        refused: NetlinkError | None = None
        for start in range(0, len(requests), _BATCH):
            chunk = requests[start : start + _BATCH]
            first = self._sequence + 1
            self._send([(kind, flags | NLM_F_ACK, body) for kind, flags, body in chunk])
            waiting = len(chunk)
            while waiting:
                for kind, flags, sequence, body in messages(self._receive()):
                    if kind != NLMSG_ERROR or not first <= sequence <= self._sequence:
                        continue
                    waiting -= 1
                    code, said = refusal(flags, body)
                    if code and refused is None:
                        refused = NetlinkError(code, said, what)
        if refused is not None:
            raise refused

    def get(self, request: Request, what: str) -> bytes:
        """The body of the single answer to a query.

        Raises:
            NetlinkError: refused, ENODEV where the thing does not exist.
        """
        kind, flags, body = request
        self._send([(kind, flags, body)])
        while True:
            for kind, flags, sequence, body in messages(self._receive()):
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_ERROR:
                    code, said = refusal(flags, body)
                    raise NetlinkError(code, said, what)
                return body

    def dump(self, request: Request, what: str) -> list[bytes]:
        """The bodies of every object of a kind; asked again when the table changed meanwhile."""
        while True:
            found, whole = self._dump_once(request, what)
            if whole:
                return found

    def _dump_once(self, request: Request, what: str) -> tuple[list[bytes], bool]:
        kind, flags, body = request
        self._send([(kind, flags | NLM_F_DUMP, body)])
        found: list[bytes] = []
        whole = True
        while True:
            for kind, flags, sequence, body in messages(self._receive()):
                if sequence != self._sequence:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    whole = False
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    code, said = refusal(flags, body)
                    if code:
                        raise NetlinkError(code, said, what)
                    return found, whole
                if kind != NLMSG_NOOP:
                    found.append(body)

    def _send(self, requests: Sequence[Request]) -> None:
        out = bytearray()
        for kind, flags, body in requests:
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            out += _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
            out += body
            out += b"\0" * (-len(body) & 3)
        self._socket.sendto(out, (0, 0))

    def _receive(self) -> memoryview:
        size = self._socket.recv_into(self._buffer, 0, _socket.MSG_TRUNC)
        if size > len(self._buffer):
            raise NetlinkError(90, "answer larger than the buffer", "netlink")  # EMSGSIZE
        return memoryview(self._buffer)[:size]
