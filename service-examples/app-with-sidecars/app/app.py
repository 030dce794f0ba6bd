"""A web application on SQLite: takes orders, and says what has become of them.

POST /orders   the order as text; 201 and its number, when it is in the database
GET /orders    all of them, as JSON
POST /quit     a number: the application ends with it as its exit code, as it might for reasons of its own

When it answers it writes a newline to descriptor 3 (notification-fd). SIGTERM: it finishes what it does, and ends.
"""

import time

# For cold-start, which measures how long it took to get here.
BEGAN = time.clock_gettime(time.CLOCK_MONOTONIC)

import http.server
import json
import os
import signal
import sqlite3
import sys
import threading

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    receipt TEXT,               -- of the worker: NULL until it is done
    done_by TEXT,
    times_done INTEGER NOT NULL DEFAULT 0
)
"""

exit_code = 0


def connect():
    database = sqlite3.connect(os.environ["DATABASE"], timeout=30, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    # Litestream decides when what is in the WAL goes into the database.
    database.execute("PRAGMA wal_autocheckpoint = 0")
    return database


class Handler(http.server.BaseHTTPRequestHandler):
    # A connection is for one request: nobody is waited for at the end.
    timeout = 5

    def do_GET(self):
        if self.path != "/orders":
            return self.answer(404, "there is no such page")
        database = connect()
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM orders ORDER BY id")]
        database.close()
        self.answer(200, json.dumps(rows))

    def do_POST(self):
        global exit_code
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/orders":
            database = connect()
            number = database.execute("INSERT INTO orders (text) VALUES (?)", [body]).lastrowid
            database.close()
            self.answer(201, str(number))
        elif self.path == "/quit":
            exit_code = int(body)
            self.answer(200, "")
            end()
        else:
            self.answer(404, "there is no such page")

    def answer(self, status, text):
        self.send_response(status)
        data = text.encode() + b"\n"
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def end(*_):
    # It waits for the loop to end, which may be what was interrupted.
    threading.Thread(target=server.shutdown).start()


if "BEGAN_TO" in os.environ:
    with open(os.environ["BEGAN_TO"], "w") as file:
        file.write(str(BEGAN))
connect().execute(SCHEMA)
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
server.daemon_threads = False
signal.signal(signal.SIGTERM, end)
print("app: http://127.0.0.1:8000/orders", flush=True)
try:
    os.write(3, b"\n")
    os.close(3)
except OSError:
    pass  # Nobody has asked to be told.
server.serve_forever()
# Those that are being answered.
server.server_close()
print(f"app: ends with {exit_code}", flush=True)
sys.exit(exit_code)
