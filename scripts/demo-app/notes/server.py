"""A shared notebook: GET / lists the notes as HTML, GET /notes as JSON, POST /notes adds one. SQLite keeps them."""

import html
import json
import os
import signal
import socket
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = os.environ.get("NOTES_DATABASE", "notes.db")


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(DATABASE)
    connection.execute("create table if not exists notes (id integer primary key, text text not null)")
    return connection


class Notes(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with database() as connection:
            notes = [text for (text,) in connection.execute("select text from notes order by id")]
        if self.path == "/notes":
            self.answer(200, "application/json", json.dumps({"host": socket.gethostname(), "notes": notes}))
        elif self.path == "/":
            items = "".join(f"<li>{html.escape(text)}</li>" for text in notes)
            self.answer(200, "text/html", f"<h1>Notes on {socket.gethostname()}</h1><ul>{items}</ul>")
        else:
            self.answer(404, "text/plain", "no such page\n")

    def do_POST(self) -> None:
        text = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 4096)).decode()
        with database() as connection:
            connection.execute("insert into notes (text) values (?)", (text,))
        self.answer(201, "text/plain", "noted\n")

    def answer(self, status: int, kind: str, body: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    server = ThreadingHTTPServer(("0.0.0.0", 8000), Notes)
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    print(f"notes: listening on port 8000 of {socket.gethostname()}", flush=True)
    server.serve_forever()
