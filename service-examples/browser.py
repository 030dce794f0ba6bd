"""Looks at the web page of supervisord with a real browser, as a person does.

usage: browser.py URL USER PASSWORD PROGRAM

Opens the page, is refused without a password and with a wrong one, logs in, reads the table of programs, clicks
"Restart" beside PROGRAM and reads the table again. Exit status: 0 PROGRAM runs as another process then and the
others as before; 1 not, the last line says why; 2 there is no browser, or it does not start. SCREENSHOT=FILE keeps a
picture of what was to be seen in the end.

The browser is Chromium, headless, driven over a pair of pipes with the DevTools protocol: no port is opened, no
driver program is needed, and it ends when this process does.
"""

import base64
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]

# For anything that the browser is asked, and for a page to be as it should. Seconds; far longer than any takes.
PATIENCE = 60

# The rows of the table: name of the program, state, description, and where to click to restart it.
TABLE = """
JSON.stringify([...document.querySelectorAll('table tbody tr')].map(row => {
    const link = [...row.querySelectorAll('a')].find(a => a.textContent.trim() == 'Restart');
    const box = link && link.getBoundingClientRect();
    return {
        name: row.querySelector('a[href^="tail.html"]').textContent.trim(),
        state: row.querySelector('td.status').textContent.trim(),
        description: row.cells[1].textContent.trim(),
        restart: box && [box.x + box.width / 2, box.y + box.height / 2],
    };
}))
"""


class Failure(Exception):
    """What went wrong, in a sentence."""


class NoBrowser(Failure):
    """There is none, or it does not start."""


class Browser:
    """A browser with one page. Ended when left."""

    def __init__(self):
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        if not path:
            raise NoBrowser("there is no Chromium here (Debian: chromium-headless-shell, or chromium)")
        self.name = os.path.basename(path)
        self.profile = tempfile.TemporaryDirectory(prefix="browser.", ignore_cleanup_errors=True)
        self.credentials = None
        self.status = {}
        self.last_id = 0
        self.input = b""
        self.session = None
        command = [path, "--headless", "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}"]
        # There is no sandbox for root, no graphics processor, and perhaps little shared memory in a container.
        command += ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        # Nothing of its own goes over the network.
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        self.errors = tempfile.TemporaryFile()
        self.process = self.spawn(command + ["about:blank"])

    def spawn(self, command):
        """Starts it with our ends of the pipes as its descriptors 3 and 4."""
        theirs, self.out = os.pipe()
        self.inp, theirs2 = os.pipe()

        def pipes():
            high = [os.dup2(theirs, 100, True), os.dup2(theirs2, 101, True)]
            os.dup2(high[0], 3, True)
            os.dup2(high[1], 4, True)

        try:
            environment = dict(os.environ, HOME=self.profile.name)
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                    env=environment, preexec_fn=pipes, pass_fds=[3, 4], cwd="/",
                                    start_new_session=True)
        except OSError as error:
            raise NoBrowser(f"unable to start {command[0]}: {error.strerror}")
        finally:
            os.close(theirs)
            os.close(theirs2)

    def __enter__(self):
        try:
            target = self.ask("Target.createTarget", url="about:blank")
            attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        except Failure as failure:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip().splitlines()
            raise NoBrowser(f"{self.name} does not start: {failure}; it said: {' / '.join(said[-3:])}")
        self.session = attached["sessionId"]
        self.ask("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        self.ask("Page.enable")
        self.ask("Network.enable")
        self.ask("Fetch.enable", handleAuthRequests=True)
        return self

    def __exit__(self, *_):
        # It ends when its pipe does.
        os.close(self.out)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.inp)
        self.profile.cleanup()

    def tell(self, method, **parameters):
        """Sends a request and does not wait for the answer. Its number."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        try:
            os.write(self.out, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise Failure("the browser has ended")
        return self.last_id

    def ask(self, method, **parameters):
        """Sends a request. Its answer."""
        number = self.tell(method, **parameters)
        until = time.monotonic() + PATIENCE
        while True:
            message = self.receive(until)
            if message.get("id") == number:
                if "error" in message:
                    raise Failure(f"{method}: {message['error']['message']}")
                return message["result"]

    def receive(self, until):
        """The next message. Those that the page's requests cause are dealt with."""
        while b"\0" not in self.input:
            if not select.select([self.inp], [], [], max(0, until - time.monotonic()))[0]:
                raise Failure(f"the browser says nothing for {PATIENCE} s")
            piece = os.read(self.inp, 65536)
            if not piece:
                raise Failure("the browser has ended")
            self.input += piece
        line, self.input = self.input.split(b"\0", 1)
        message = json.loads(line)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Fetch.requestPaused":
                self.tell("Fetch.continueRequest", requestId=parameters["requestId"])
            case "Fetch.authRequired":
                self.log_in(parameters["requestId"])
            case "Network.responseReceived" if parameters["type"] == "Document":
                self.status = parameters["response"]
        return message

    def log_in(self, request):
        """What a person does with the window that asks for a password: fills it in once, then gives up."""
        answer = {"response": "CancelAuth"}
        if self.credentials:
            user, password = self.credentials
            answer = {"response": "ProvideCredentials", "username": user, "password": password}
            self.credentials = None
        self.tell("Fetch.continueWithAuth", requestId=request, authChallengeResponse=answer)

    def wait_for_page(self, act):
        """Does something, and waits until the page that it leads to is there."""
        act()
        until = time.monotonic() + PATIENCE
        while self.receive(until).get("method") != "Page.loadEventFired":
            pass

    def open(self, url, credentials=None):
        """Opens a page. Its HTTP status."""
        self.credentials = credentials
        self.status = {}
        self.wait_for_page(lambda: self.tell("Page.navigate", url=url))
        return self.status.get("status")

    def evaluate(self, expression):
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression)
        if "exceptionDetails" in answer:
            raise Failure(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def click(self, x, y):
        """With the mouse, on something that leads to a page."""
        def act():
            for kind in ["mousePressed", "mouseReleased"]:
                self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.wait_for_page(act)

    def screenshot(self, path):
        """What is to be seen, as a PNG file."""
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


def pid(row):
    """Of a program that runs; `None` if it does not."""
    found = re.match(r"pid (\d+)", row["description"])
    return found and int(found[1])


def table(browser):
    """The programs by name."""
    return {row["name"]: row for row in json.loads(browser.evaluate(TABLE))}


def show(rows):
    for row in rows.values():
        print(f"  {row['name']:<20} {row['state']:<10} {row['description']}", flush=True)


def settled(browser, url):
    """The programs, once none of them is about to start or stop."""
    until = time.monotonic() + PATIENCE
    while True:
        rows = table(browser)
        if not any(row["state"] in ("starting", "stopping", "backoff") for row in rows.values()):
            return rows
        if time.monotonic() > until:
            raise Failure(f"programs neither run nor are stopped: {rows}")
        time.sleep(0.2)
        browser.open(url)


def visit(browser, url, credentials, program):
    """All of it; raises what is wrong."""
    for what, wrong in [("no password", None), ("a wrong password", (credentials[0], "wrong"))]:
        status = browser.open(url, wrong)
        print(f"{what}: {status}", flush=True)
        if status != 401:
            raise Failure(f"HTTP status {status}, not 401")
    status = browser.open(url, credentials)
    title = browser.evaluate("document.title")
    print(f"logged in: {status} {title}", flush=True)
    if status != 200:
        raise Failure(f"HTTP status {status}, not 200")
    before = settled(browser, url)
    show(before)
    if program not in before or not pid(before[program]):
        raise Failure(f"{program} does not run")
    print(f"click: Restart {program}", flush=True)
    browser.click(*before[program]["restart"])
    print(f"the page: {browser.evaluate('document.querySelector(`.status_msg`)?.textContent')}", flush=True)
    after = settled(browser, url)
    show(after)
    if not pid(after[program]) or pid(after[program]) == pid(before[program]):
        raise Failure(f"{program} is not another process")
    others = {name for name in before if name != program and pid(before[name]) != pid(after[name])}
    if others:
        raise Failure(f"others are not the same processes: {others}")
    if os.environ.get("SCREENSHOT"):
        browser.screenshot(os.environ["SCREENSHOT"])


def main(url, user, password, program):
    try:
        with Browser() as browser:
            print(f"browser: {browser.name}", flush=True)
            visit(browser, url, (user, password), program)
    except NoBrowser as failure:
        print(failure)
        return 2
    except Failure as failure:
        print(f"not as it should be: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
