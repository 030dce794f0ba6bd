#!/usr/bin/env python3
"""A server of a large model, without the model: it takes 85 seconds to load, and says what it is doing.

Replace what sleeps by what loads. What it says to the supervisor is in notify(); SPEED=10 loads ten times as fast,
STALL=3 hangs in stage 3, for ever.
"""

import importlib
import os
import signal
import socket
import sys
import threading
import time

SOCKET = os.environ.get("MODEL_SOCKET", "/run/model.sock")
SPEED = float(os.environ.get("SPEED", "1"))
STALL = int(os.environ.get("STALL", "0"))

# What is done, in how many parts, and how long a part takes, in seconds: 85 in all.
STAGES = [
    ("importing libraries", 1, 5),
    ("reading the tokenizer", 2, 5),
    ("loading weights", 5, 9),
    ("moving them to the device", 3, 5),
    ("warming up", 2, 5),
]


def notify(*lines):
    """Tells the supervisor how we are, as sd_notify(3) does. Without one it tells nobody."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1))


def load():
    for number, (what, parts, seconds) in enumerate(STAGES, 1):
        for part in range(1, parts + 1):
            of = f", part {part} of {parts}" if parts > 1 else ""
            # A line that is another one is progress: the supervisor has patience anew.
            notify(f"STATUS={what} ({number}/{len(STAGES)}{of})")
            if number == STALL:
                time.sleep(1e6)
            if number == 1:
                for name in ["json", "sqlite3", "concurrent.futures"]:
                    importlib.import_module(name)
            time.sleep(seconds / SPEED)


def say_alive(every):
    """As long as this process does anything at all. A real server asks its worker for an answer first."""
    while True:
        notify("WATCHDOG=1")
        time.sleep(every)


def serve(listener):
    answered = 0
    while True:
        connection, _ = listener.accept()
        with connection:
            question = connection.makefile().readline().strip()
            answered += 1
            connection.sendall(f"{os.getpid()}: {question[::-1]}\n".encode())
        notify(f"STATUS=answered {answered}")


def stop(signum, frame):
    notify("STOPPING=1", "STATUS=stopping")
    sys.exit(0)


def main():
    signal.signal(signal.SIGTERM, stop)
    load()
    try:
        os.unlink(SOCKET)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(SOCKET)
    listener.listen(64)
    if "WATCHDOG_USEC" in os.environ:
        every = int(os.environ["WATCHDOG_USEC"]) / 3e6
        threading.Thread(target=say_alive, args=[every], daemon=True).start()
    notify("READY=1", "STATUS=answers")
    serve(listener)


if __name__ == "__main__":
    main()
