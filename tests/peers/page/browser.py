"""A headless Chromium, driven over its debugging pipe with the standard library alone.

Messages are JSON, ended by a zero byte; Chromium reads them from descriptor 3 and answers on 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Virtual key codes.
KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36, "Escape": 27, "Tab": 9, "Enter": 13,
}  # fmt: skip


class Gone(Exception):
    pass


class Threw(Exception):
    pass


def find() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page. What the page reports by itself is kept in `events`; `on` may handle it at once."""

    def __init__(self, path: str):
        self.profile = tempfile.TemporaryDirectory(prefix="page-check-", ignore_cleanup_errors=True)

        # High numbers, so that putting them at 3 and 4 overwrites neither of them.
        def high(descriptor: int) -> int:
            moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64)
            os.close(descriptor)
            return moved

        commands, self.write = map(high, os.pipe())
        self.read, answers = map(high, os.pipe())

        def arrange():
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        # Chromium refuses its sandbox to root, which is who runs in most containers; the page is our own.
        flags = [
            "--headless=new",
            "--remote-debugging-pipe",
            "--hide-scrollbars",
            "--disable-gpu",
            "--no-sandbox",
            "--no-first-run",
        ]
        self.process = subprocess.Popen(
            [path, *flags, f"--user-data-dir={self.profile.name}"],
            pass_fds=(3, 4),
            preexec_fn=arrange,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.session, self.number, self.rest = None, 0, b""
        self.events: list[tuple[str, dict]] = []
        self.handlers = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (Gone, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()

    def send(self, method: str, **params) -> int:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write, data) :]
        return self.number

    def call(self, method: str, **params) -> dict:
        number = self.send(method, **params)
        while True:
            answer = self.message(30)
            if answer is None:
                raise Gone(f"{method}: no answer")
            if answer.get("id") == number:
                if "error" in answer:
                    raise Threw(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def message(self, seconds: float) -> dict | None:
        """The next message, kept if it is an event; none where none comes in time."""
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            if not select.select([self.read], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            data = os.read(self.read, 1 << 20)
            if not data:
                raise Gone("the browser has gone")
            self.rest += data
        line, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(line)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
            if handler := self.handlers.get(message["method"]):
                handler(message["params"])
        return message

    def settle(self, seconds: float):
        """Lets the page go on, and hears what it reports."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.message(left)

    def open(self, url: str):
        self.call("Page.navigate", url="about:blank")
        self.settle(0.05)
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            if self.message(30) is None:
                raise Gone(f"{url}: not loaded")

    def js(self, expression: str):
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if problem := answer.get("exceptionDetails"):
            raise Threw(f"{expression}: {problem.get('exception', problem).get('description', problem)}")
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 30):
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while True:
            value = self.js(expression)
            if value or time.monotonic() > end:
                return value
            self.settle(0.05)

    def press(self, key: str):
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        if key == "Enter":
            code["text"] = "\r"
        self.call("Input.dispatchKeyEvent", type="keyDown" if "text" in code else "rawKeyDown", **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, selector: str, text: str):
        """Replaces the text of a field, as a person would."""
        self.js(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)

    def click(self, selector: str):
        """In the middle of an element, with the pointer."""
        spot = self.js(
            f"(e => {{ e.scrollIntoView({{ block: 'center' }}); const b = e.getClientRects()[0];"
            f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        point = {"x": spot[0], "y": spot[1], "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=spot[0], y=spot[1])
        self.call("Input.dispatchMouseEvent", type="mousePressed", **point)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **point)

    def tap(self, selector: str):
        """With a finger, where the element is now."""
        x, y = self.js(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelector({json.dumps(selector)}).getClientRects()[0])"
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle(0.2)
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    def look(self, width: int, height: int = 900, scheme: str = "light", motion: str = "no-preference"):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def shoot(self, path: Path, whole: bool = False):
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture["data"]))
