"""A queue of jobs in SQLite, and what there is to ask of it:

    jobs.py init                  makes it
    jobs.py add KIND [COUNT]      puts jobs into it
    jobs.py waiting KIND          how many are to be done: the metric of a pool
    jobs.py summary               how many there are of each kind, and what became of them
    jobs.py twice                 jobs whose effect is there more than once, or not at all: none, if all is well

A job is claimed for a time, its lease, which its worker renews while it is at work. Who does not renew it is dead, or
as good as dead, and the job is somebody else's. What a job does and that it is done are one transaction, which is
refused to a worker that has lost its lease: so of two that worked on a job, one has done it.
"""

import os
import sqlite3
import sys
import time

DATABASE = os.environ.get("JOBS_DATABASE", "/srv/jobs/jobs.db")

# Seconds. Long enough for a worker that has to wait for a processor, short enough to wait for after a crash.
LEASE = float(os.environ.get("JOBS_LEASE", "30"))

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',      -- waiting, claimed, done, failed
    worker TEXT,
    claims INTEGER NOT NULL DEFAULT 0,          -- the number of the claim: a worker knows its own
    lease REAL                                  -- until when, of one that is claimed
);
CREATE INDEX IF NOT EXISTS job_state ON job (kind, state);
-- What jobs have done. Nothing here keeps a job from being done twice.
CREATE TABLE IF NOT EXISTS effect (job INTEGER NOT NULL, worker TEXT NOT NULL, result TEXT NOT NULL);
"""

OPEN = "kind = ? AND (state = 'waiting' OR state = 'claimed' AND lease < ?)"


class Lost(Exception):
    """The lease has run out, and the job is somebody else's."""


def connect():
    # Whoever finds the database locked waits.
    db = sqlite3.connect(DATABASE, timeout=60, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def init():
    os.makedirs(os.path.dirname(DATABASE), exist_ok=True)
    connect().executescript(SCHEMA)


def add(db, kind, payloads):
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO job (kind, payload) VALUES (?, ?)", ((kind, payload) for payload in payloads))
    db.execute("COMMIT")


def available(db, kind):
    """Whether there is something to claim."""
    row = db.execute(f"SELECT EXISTS (SELECT 1 FROM job WHERE {OPEN})", (kind, time.time())).fetchone()
    return bool(row[0])


def claim(db, kind, worker):
    """Takes a job: (id, claim, payload), or None."""
    db.execute("BEGIN IMMEDIATE")
    now = time.time()
    row = db.execute(f"SELECT id, claims, payload FROM job WHERE {OPEN} ORDER BY id LIMIT 1", (kind, now)).fetchone()
    if row:
        change = "UPDATE job SET state = 'claimed', worker = ?, claims = claims + 1, lease = ? WHERE id = ?"
        db.execute(change, (worker, now + LEASE, row[0]))
    db.execute("COMMIT")
    return row and (row[0], row[1] + 1, row[2])


def renew(db, job, number):
    """The heartbeat of a worker at work."""
    change = "UPDATE job SET lease = ? WHERE id = ? AND claims = ? AND state = 'claimed'"
    db.execute(change, (time.time() + LEASE, job, number))


def finish(db, job, number, worker, result):
    """The effect, and that it is done, or that it failed (no result): both or neither."""
    state = "failed" if result is None else "done"
    db.execute("BEGIN IMMEDIATE")
    change = "UPDATE job SET state = ?, lease = NULL WHERE id = ? AND claims = ? AND state = 'claimed'"
    if db.execute(change, (state, job, number)).rowcount != 1:
        db.execute("ROLLBACK")
        raise Lost
    if result is not None:
        db.execute("INSERT INTO effect VALUES (?, ?, ?)", (job, worker, result))
    db.execute("COMMIT")


def summary(db):
    rows = db.execute("SELECT kind, state, count(*), sum(claims) - count(*) FROM job GROUP BY kind, state")
    for kind, state, count, again in rows:
        print(f"{kind} {state} {count}" + (f" (claimed again: {again})" if again > 0 else ""))


def twice(db):
    effects = "(SELECT count(*) FROM effect WHERE job = id)"
    return db.execute(f"SELECT id FROM job WHERE {effects} != (state = 'done')").fetchall()


def main(command, *words):
    if command == "init":
        return init()
    db = connect()
    if command == "add":
        kind, count = words[0], int(words[1]) if words[1:] else 1
        add(db, kind, (f"{kind} {n}" for n in range(count)))
    elif command == "waiting":
        states = "kind = ? AND state IN ('waiting', 'claimed')"
        print(db.execute(f"SELECT count(*) FROM job WHERE {states}", words).fetchone()[0])
    elif command == "summary":
        summary(db)
    elif command == "twice":
        rows = twice(db)
        print("\n".join(str(row[0]) for row in rows) or "none")
        return 1 if rows else 0
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["help"]))
