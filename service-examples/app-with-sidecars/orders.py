"""What customers of the application do, and an auditor: for `try`.

usage: orders.py send FILE COUNT      sends orders; each that is acknowledged is a line of FILE
       orders.py audit FILE DATABASE  is every order of FILE in the database, once, and done once? Exit status 0: yes
       orders.py same DATABASE OTHER  do both have the same orders, receipts included? Exit status 0: yes
"""

import hashlib
import http.client
import os
import sqlite3
import sys


def send(path, count):
    for number in range(count):
        text = f"order {os.getpid()}.{number}"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
            connection.request("POST", "/orders", text)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            sys.exit("orders.py: the application is gone")
        if status == 201:
            with open(path, "a") as file:
                file.write(text + "\n")


def rows(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    return database.execute("SELECT id, text, receipt, times_done FROM orders ORDER BY id").fetchall()


def audit(path, database):
    with open(path) as file:
        acknowledged = file.read().splitlines()
    there = {}
    for _, text, receipt, times in rows(database):
        good = receipt == hashlib.sha256(text.encode()).hexdigest() and times == 1
        there[text] = there.get(text, []) + [good]
    missing = [text for text in acknowledged if text not in there]
    double = [text for text in acknowledged if len(there.get(text, [])) > 1]
    undone = [text for text in acknowledged if there.get(text) == [False]]
    print(f"{len(acknowledged)} orders acknowledged; in the database {len(missing)} of them are missing,"
          f" {len(double)} doubled, {len(undone)} not done yet, {sum(map(len, there.values()))} there in all")
    return not missing and not double


def same(one, other):
    return rows(one) == rows(other)


match sys.argv[1:]:
    case ["send", path, count]:
        send(path, int(count))
    case ["audit", path, database]:
        sys.exit(not audit(path, database))
    case ["same", one, other]:
        sys.exit(not same(one, other))
    case _:
        sys.exit(__doc__)
