"""What every check does with the page: open it, ask, put itself between page and server, and look for trouble."""

from __future__ import annotations

import argparse
import base64
import json
from urllib.parse import urlsplit

from browser import Browser

RUNNING = "!document.querySelector('#stop').disabled"
IDLE = "document.querySelector('#stop').disabled"


class Failed(Exception):
    pass


def expect(fact, what: str):
    if not fact:
        raise Failed(what)


class Driver:
    def __init__(self, browser: Browser, options: argparse.Namespace):
        self.browser, self.options = browser, options
        self.url = options.url
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.url))
        self.notes: list[str] = []

    def open(self, fragment: str = ""):
        self.intercept(None)
        self.browser.open("about:blank")
        self.browser.open(self.url + fragment)
        expect(self.browser.wait("document.querySelectorAll('.model').length", 20), "no model is listed")

    def ask(self, prompt: str | None = None, tokens: int | None = None):
        """Fills in and runs; `captured` then holds what the server said, by model."""
        browser = self.browser
        if self.options.model:
            wanted = json.dumps(self.options.model)
            browser.js(
                "document.querySelectorAll('.model > label input').forEach(b => {"
                f" if ({wanted}.includes(b.value) !== b.checked) b.click(); }})"
            )
        browser.js("document.querySelectorAll('#request > details').forEach(d => { d.open = true; })")
        browser.type("#prompt", prompt or self.options.prompt)
        browser.type("#max_tokens", str(tokens or self.options.max_tokens))
        browser.js(
            "globalThis.captured = []; document.querySelectorAll('.column').forEach(c => { c.dataset.old = ''; })"
        )
        browser.click("#run")
        begun = "document.querySelector('.column:not([data-old])')"
        expect(browser.wait(f"Boolean({begun})", 5), "pressing Run does nothing")

    def shade(self, measure: str):
        """Chooses what tokens are shaded by."""
        choose = "m.value = %s; m.dispatchEvent(new Event('change'));" % json.dumps(measure)
        self.browser.js(f"(m => {{ {choose} }})(document.querySelector('#measure'))")

    def end(self, seconds: float = 300):
        expect(self.browser.wait(IDLE, seconds), f"the run has not ended in {seconds:.0f} s")

    def intercept(self, handler):
        """Puts `handler(params)` between page and server; it answers true where it took the request."""
        browser = self.browser
        browser.handlers.pop("Fetch.requestPaused", None)
        if handler is None:
            browser.call("Fetch.disable")
            return

        def paused(params):
            if not handler(params):
                browser.send("Fetch.continueRequest", requestId=params["requestId"])

        browser.handlers["Fetch.requestPaused"] = paused
        browser.call("Fetch.enable", patterns=[{"urlPattern": "*/v1/*"}])

    def answer(self, params, status: int, body: str, kind: str = "application/json", **headers):
        listed = [
            {"name": name.replace("_", "-"), "value": value}
            for name, value in {"Content-Type": kind, **headers}.items()
        ]
        encoded = base64.b64encode(body.encode()).decode()
        self.browser.send(
            "Fetch.fulfillRequest",
            requestId=params["requestId"],
            responseCode=status,
            responseHeaders=listed,
            body=encoded,
        )
        return True

    def reply(self, status: int, body: str, kind: str = "application/json", **headers):
        """Answers every completion with this, in the server's place."""

        def handler(params):
            return "completions" in params["request"]["url"] and self.answer(params, status, body, kind, **headers)

        self.intercept(handler)

    def stream(self, *choices: dict):
        """The same with a whole stream of chunks."""
        chunks = [{"choices": [{"index": 0, "finish_reason": None, **choice}]} for choice in choices]
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        self.reply(200, body + "data: [DONE]\n\n", "text/event-stream")

    def shoot(self, name: str):
        if self.options.screenshots:
            self.browser.shoot(self.options.screenshots / f"{name}.png")

    def quiet(self, expected_statuses: tuple[int, ...] = ()):
        """Nothing on the console, nothing thrown, no request elsewhere."""
        for method, params in self.browser.events:
            if method == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                raise Failed(f"exception: {details.get('exception', {}).get('description', details['text'])}")
            if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                raise Failed(f"console: {params['args']}")
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                entry = params["entry"]
                if any(f"status of {status}" in entry["text"] for status in expected_statuses):
                    continue
                raise Failed(f"console: {entry['text']} {entry.get('url', '')}")
            if method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                expect(url.startswith(self.origin + "/"), f"a request to {url}")
