"""Docker's syslog driver: RFC 3164 or RFC 5424 to a local socket, over UDP, TCP or TLS."""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scow.logs.remote import Line

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_PORT = 514
#: Seconds for a connection, and for a server to take a line.
_TIMEOUT = 10.0
_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
_DAEMON = 3
#: Severities: stdout is information, stderr an error.
_SEVERITY = (6, 6, 3)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def check(options: Mapping[str, str]) -> None:
    """Raise `InvalidArgument`, in Docker's words, for an address, a facility or a format that is none."""
    scheme, _where = address(options.get("syslog-address", ""))
    facility(options.get("syslog-facility", ""))
    if options.get("syslog-format", "") not in ("", "rfc3164", "rfc5424", "rfc5424micro"):
        raise InvalidArgument("Invalid syslog format")
    if scheme == "tcp+tls":
        for name in ("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"):
            if options.get(name) and not os.path.exists(options[name]):
                raise InvalidArgument(f"{name}: {options[name]}: no such file or directory")


def facility(text: str) -> int:
    """A facility's name or number; daemon where none is given.

    Raises:
        InvalidArgument: neither.
    """
    if not text:
        return _DAEMON
    if text in _FACILITIES:
        return _FACILITIES.index(text)
    if text.isascii() and text.isdecimal() and int(text) <= 23:
        return int(text)
    raise InvalidArgument("invalid syslog facility")


def address(text: str) -> tuple[str, str | tuple[str, int]]:
    """``tcp://host:port`` → (scheme, where); ("", "") for this machine's own.

    Raises:
        InvalidArgument: another scheme, or no address.
    """
    if not text:
        return "", ""
    scheme, found, rest = text.partition("://")
    if not found:
        raise InvalidArgument("unsupported scheme: ''")
    if scheme in ("unix", "unixgram"):
        if not os.path.exists(rest):
            raise InvalidArgument(f"stat {rest}: no such file or directory")
        return scheme, rest
    if scheme not in ("udp", "tcp", "tcp+tls"):
        raise InvalidArgument(f"unsupported scheme: '{scheme}'")
    host, port = _split(rest.rstrip("/"))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidArgument(f"address {rest}: invalid port {port!r}")
    return scheme, (host, int(port))


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":") or str(_PORT)
    host, _, port = text.partition(":")
    return host or "localhost", port or str(_PORT)


class SyslogSender:
    """Sends to one server, as the driver's options say."""

    __slots__ = ("_facility", "_format", "_hostname", "_options", "_scheme", "_socket", "_stream", "_tag", "_where")

    def __init__(self, options: Mapping[str, str], tag: str) -> None:
        self._options = options
        self._scheme, self._where = address(self._options.get("syslog-address", ""))
        self._facility = facility(self._options.get("syslog-facility", ""))
        self._format = self._options.get("syslog-format", "")
        self._tag = tag
        self._hostname = socket.gethostname()
        self._socket: socket.socket | None = None
        self._stream = False

    def connect(self) -> None:
        """Raises OSError: nobody is there, or its certificate is not accepted."""
        self.close()
        if self._scheme in ("", "unix", "unixgram"):
            self._socket = self._local()
            return
        assert isinstance(self._where, tuple)
        host, port = self._where
        try:
            if self._scheme == "udp":
                family, kind, number, _name, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
                made = socket.socket(family, kind, number)
                made.settimeout(_TIMEOUT)
                made.connect(where)
            else:
                made = socket.create_connection((host, port), _TIMEOUT)
        except OSError as error:
            raise OSError(
                error.errno, f"dial {self._scheme} {host}:{port}: connect: {(error.strerror or str(error)).lower()}"
            ) from None
        self._stream = self._scheme != "udp"
        self._socket = self._secured(made, host) if self._scheme == "tcp+tls" else made

    def _local(self) -> socket.socket:
        """This machine's syslog: whichever socket and kind of socket there is."""
        paths = (self._where,) if isinstance(self._where, str) and self._where else _LOCAL
        problem = OSError(errno.ENOENT, "Unix syslog delivery error")
        kinds = (
            (socket.SOCK_STREAM, socket.SOCK_DGRAM)
            if self._scheme == "unix"
            else (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        )
        for path in paths:
            for kind in kinds:
                made = socket.socket(socket.AF_UNIX, kind)
                made.settimeout(_TIMEOUT)
                try:
                    made.connect(path)
                except OSError as error:
                    made.close()
                    problem = error if paths != _LOCAL else problem
                    continue
                self._stream = kind == socket.SOCK_STREAM
                return made
        raise problem

    def _secured(self, made: socket.socket, host: str) -> socket.socket:
        import ssl

        context = ssl.create_default_context(cafile=self._options.get("syslog-tls-ca-cert") or None)
        if self._options.get("syslog-tls-skip-verify", "") not in ("", "false", "0"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._options.get("syslog-tls-cert"):
            context.load_cert_chain(self._options["syslog-tls-cert"], self._options.get("syslog-tls-key") or None)
        try:
            return context.wrap_socket(made, server_hostname=host)
        except OSError:
            made.close()
            raise

    def send(self, line: Line) -> None:
        """One message; several writes never interleave, for this process is the only one on the connection."""
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        message = self._message(line)
        if not self._stream:
            self._socket.send(message)
            return
        if self._scheme != "tcp+tls":
            self._look(self._socket)
        try:
            self._socket.sendall(message)
        except OSError:
            self.close()  # part of the message may have gone out: the next one must not be glued to it
            raise

    def _look(self, end: socket.socket) -> None:
        """A server that closed its end would take one more message and lose it."""
        poll = select.poll()
        poll.register(end, select.POLLIN)
        if poll.poll(0) and not end.recv(1024):
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, "the syslog server closed the connection")

    def _message(self, line: Line) -> bytes:
        """One message, framed for the transport."""
        priority = self._facility * 8 + _SEVERITY[line.stream]
        pid = os.getpid()
        if self._format in ("rfc5424", "rfc5424micro"):
            stamp = _rfc3339(line.time_ns, micro=self._format == "rfc5424micro")
            head = f"<{priority}>1 {stamp} {self._hostname} {self._tag} {pid} {self._tag} - "
        else:
            host = f"{self._hostname} " if self._format == "rfc3164" else ""
            head = f"<{priority}>{_stamp(line.time_ns)} {host}{self._tag}[{pid}]: "
        message = head.encode("utf-8", "replace") + line.data + b"\n"
        if self._scheme == "tcp+tls" and self._format.startswith("rfc5424"):
            return b"%d %b" % (len(message), message)  # RFC 5425 section 4.3
        return message

    def close(self) -> None:
        """Let the connection go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _rfc3339(time_ns: int, *, micro: bool) -> str:
    second, fraction = divmod(time_ns, 1_000_000_000)
    local = time.localtime(second)
    zone = time.strftime("%z", local)
    digits = f".{fraction // 1000:06d}" if micro else ""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}{digits}{'Z' if zone == '+0000' else f'{zone[:3]}:{zone[3:]}'}"


def _stamp(time_ns: int) -> str:
    """``Jan _2 15:04:05``, whatever the locale."""
    local = time.localtime(time_ns // 1_000_000_000)
    return f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}"
