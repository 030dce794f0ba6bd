"""How long until the application's first instruction? Started alone, and with all else, by hand and by /init.

usage: cold-start.py ROUNDS      as root, where /init and the application are: `try` runs it in its container

Each start is in PID and mount namespaces of its own, from the exec of what is pid 1 there; the database is there
already. The ways take turns. Printed are the medians, in ms, and the least. What /init adds is the difference of
the first two lines; that of the others is what it costs that Litestream and the helper start at the same time.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BY_HAND = """
[ -e "$DATABASE" ] || litestream restore -config /etc/litestream.yml -if-replica-exists "$DATABASE"
litestream replicate -config /etc/litestream.yml &
helper start &
python3 /opt/app/worker.py &
exec python3 /opt/app/app.py
"""

# The service of the application, and nothing else.
ALONE = """
mkdir -p /run/alone/user/contents.d && cp -r /etc/s6-overlay/s6-rc.d/app /run/alone/app
rm -r /run/alone/app/dependencies.d && touch /run/alone/user/contents.d/app
"""

WAYS = {
    "the application": ["python3", "/opt/app/app.py"],
    "the application, by /init": ["/init", "-d", "/run/alone"],
    "all of it, by a shell script": ["sh", "-c", BY_HAND],
    "all of it, by /init": ["/init"],
}


def clock():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def become(place, command):
    """As pid 1 of the namespaces: makes its places and becomes the command."""
    for directory in ["/proc", "/run"]:
        kind = directory[1:] if directory == "/proc" else "tmpfs"
        subprocess.run(["mount", "-t", kind, kind, directory], check=True)
    subprocess.run(["sh", "-c", ALONE], check=True)
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE": f"{place}/app.db",
        "REPLICA": f"{place}/replica",
        "BEGAN_TO": f"{place}/began",
        "S6_VERBOSITY": "0",
    }
    with open(f"{place}/exec", "w") as file:
        file.write(str(clock()))
    os.execvpe(command[0], command, environment)


def measure(command):
    """Starts it once. Seconds."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["python3", "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM')",
                        f"{place}/app.db"], check=True)
        unshare = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--propagation", "private"]
        process = subprocess.Popen([*unshare, sys.executable, "-B", __file__, "become", place, *command],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            until = clock() + 60
            while not (os.path.exists(f"{place}/began") and open(f"{place}/began").read()):
                if clock() > until or process.poll() is not None:
                    sys.exit(f"{command[0]} does not start the application")
                time.sleep(0.01)
            return float(open(f"{place}/began").read()) - float(open(f"{place}/exec").read())
        finally:
            # unshare kills what is pid 1 there when it ends itself.
            process.send_signal(signal.SIGKILL)
            process.wait()


def main(rounds):
    times = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, command in WAYS.items():
            times[way].append(measure(command) * 1000)
    for way, seen in times.items():
        print(f"{way:<29} {statistics.median(seen):6.1f} ms   (least {min(seen):.1f}, of {len(seen)})")


match sys.argv[1:]:
    case ["become", place, *command]:
        become(place, command)
    case [rounds]:
        main(int(rounds))
    case _:
        sys.exit(__doc__)
