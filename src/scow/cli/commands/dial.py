"""scow system dial-stdio: stdin and stdout become a connection to the daemon (for tunnels over ssh)."""

import os
import select

from scow.cli.flags import Command, Options
from scow.cli.session import Session
from scow.fileio import write_all

DIAL = Command("", "Proxy the stdio stream to the daemon connection. Should not be invoked manually.")
CHUNK = 1 << 16


def dial(session: Session, options: Options, arguments: list[str]) -> int:
    sock = session.client.dial()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(sock.fileno(), select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(0 if sock.pending() else None)}
        if 0 in ready:
            data = os.read(0, CHUNK)
            if data:
                sock.sendall(data)
            else:
                poll.unregister(0)
                sock.shutdown(1)
        if sock.fileno() in ready or sock.pending():
            data = sock.recv(CHUNK)
            if not data:
                return 0
            write_all(1, data)


COMMANDS = {"system dial-stdio": (DIAL, dial)}
