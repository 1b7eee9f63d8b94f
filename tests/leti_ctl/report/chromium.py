"""A headless Chromium, driven over a pair of pipes with its own debugging protocol: no driver, no port, no library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

SECONDS = 120
"""Longest wait for any answer: a machine under load starts a browser in ten."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--font-render-hinting=none", "--force-color-profile=srgb", "--disable-extensions",
    # Its own sandbox needs what containers lack, and the only page it is shown is ours.
    "--no-sandbox",
)  # fmt: skip

LAUNCH = """
import os, sys
read, write = (os.dup(os.dup(os.dup(int(each)))) for each in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads commands from descriptor 3 and writes to 4. Duplicates come first, lest one takes the other's."""


def find() -> str | None:
    """Return the browser's path, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Failure(Exception):
    """What the browser answered in place of a result."""


class Tab:
    """One page. `errors` holds its exceptions and console errors since it was opened, `requests` what it asked for."""

    def __init__(self, send: Any, events: Any) -> None:
        self._send, self._events = send, events
        self.errors: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result, taking note of what happened meanwhile."""
        result: dict[str, Any] = self._send(method, parameters)
        self._note()
        return result

    def open(self, address: str) -> None:
        """Load an address and wait until it is loaded and the page's scripts have run."""
        self.errors.clear()
        self.requests.clear()
        # A change of the hash alone would load nothing.
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> Any:
        """Return what an expression, or the promise it makes, comes to."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise Failure(json.dumps(told["exceptionDetails"])[:2000])
        return told["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        body = f"""new Promise((resolve, reject) => {{
            const end = Date.now() + {SECONDS - 20} * 1000;
            const late = () => Date.now() > end;
            const look = () => ({condition}) ? resolve(true) : late() ? reject("timeout") : setTimeout(look, 20);
            look();
        }})"""
        while True:
            try:
                self.run(body)
                return
            except Failure as error:
                # A page that is being left takes the promise with it.
                if "Execution context" not in str(error) and "navigated" not in str(error):
                    raise

    def press(self, *keys: str) -> None:
        """Press and release keys, one after another; a single character is also typed."""
        for key in keys:
            typed = {"text": key} if len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **typed)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def size(self, width: int, height: int = 900) -> None:
        """Set the window's size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, *, scheme: str = "light", kind: str = "") -> None:
        """Emulate a colour scheme, and `print` or the screen."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page, all of its height if `whole`."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        told = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=False)
        return base64.b64decode(told["data"])

    def _note(self) -> None:
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                return
            self._heard(event["method"], event["params"])

    def _heard(self, method: str, told: Mapping[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])


@contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """Start a browser with a profile folder of its own and give its one tab."""
    path = find()
    assert path is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    flags = [*FLAGS, f"--user-data-dir={profile}"]
    line = [sys.executable, "-c", LAUNCH, str(to_read), str(from_write), path, *flags, "about:blank"]
    process = subprocess.Popen(
        line,
        pass_fds=(to_read, from_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    os.close(to_read)
    os.close(from_write)
    wire = _Wire(to_write, from_read)
    try:
        yield wire.tab()
        wire.send("Browser.close", {})
    finally:
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to_write)
        wire.reader.join(SECONDS)
        os.close(from_read)


class _Wire:
    """Commands and answers as JSON that ends in NUL; events are queued for the tab."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._number = 0
        self._answers: Queue[dict[str, Any]] = Queue()
        self._events: Queue[dict[str, Any]] = Queue()
        self._session: str | None = None
        self.reader = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()

    def tab(self) -> Tab:
        """Attach to the browser's first page."""
        targets = self.send("Target.getTargets", {})["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", {"targetId": page, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable", {})
        return Tab(self.send, self._events)

    def send(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a command; `Failure` where the browser refuses it or has ended."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._answers.get(timeout=SECONDS)
            if answer.get("id") == self._number:
                break
            if answer.get("id") is None:
                raise Failure("the browser ended")
        if "error" in answer:
            raise Failure(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _listen(self) -> None:
        pending = b""
        while data := os.read(self._read, 1 << 16):
            *messages, pending = (pending + data).split(b"\0")
            for message in messages:
                told = json.loads(message)
                (self._answers if "id" in told else self._events).put(told)
        self._answers.put({})
