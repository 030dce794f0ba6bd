"""A worker of a pool: worker.py KIND.

Its working directory is that of its service. There it says what it is doing, in `status`, and finds `drain` when it is
to take no more work: see svpool(8).
"""

import os
import re
import sys
import threading
import time

import jobs

kind = sys.argv[1]
name = os.path.basename(os.getcwd())
db = jobs.connect()


def mail(payload):
    time.sleep(0.02)  # a server far away
    return f"sent: {payload}"


def thumbnail(payload):
    until = time.thread_time() + 0.005  # something to compute
    while time.thread_time() < until:
        pass
    time.sleep(0.01)
    return f"small: {payload}"


work = {"mail": mail, "thumbnail": thumbnail}[kind]


def counted(word):
    """What the one before us in this directory had done when it died."""
    try:
        with open("status") as file:
            return int(re.search(rf"\b{word}=(\d+)", file.read())[1])
    except (OSError, TypeError):
        return 0


done, failed = counted("done"), counted("failed")


def say(text):
    with open("status.new", "w") as file:
        file.write(f"{text} done={done} failed={failed}\n")
    os.rename("status.new", "status")


class Heartbeat(threading.Thread):
    """Renews the lease of the job that is being done, if that takes long."""

    def __init__(self):
        super().__init__(daemon=True)
        self.job = None

    def run(self):
        connection = jobs.connect()
        while True:
            time.sleep(jobs.LEASE / 3)
            job = self.job
            if job:
                jobs.renew(connection, *job)


heartbeat = Heartbeat()
heartbeat.start()
say("idle")
os.write(3, b"\n")  # ready
os.close(3)
while True:
    if not jobs.available(db, kind):
        time.sleep(0.1)
        continue
    # In this order: see svpool(8).
    say("busy")
    job = None if os.path.exists("drain") else jobs.claim(db, kind, name)
    if not job:
        say("idle")
        time.sleep(0.1)
        continue
    number, claim, payload = job
    heartbeat.job = (number, claim)
    try:
        result = work(payload)
    except Exception as error:
        print(f"job {number}: {error}", file=sys.stderr, flush=True)
        result = None
    heartbeat.job = None
    try:
        jobs.finish(db, number, claim, name, result)
        done, failed = done + (result is not None), failed + (result is None)
    except jobs.Lost:
        print(f"job {number}: it took so long that somebody else has it", file=sys.stderr, flush=True)
    say("idle")
