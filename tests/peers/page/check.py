"""Opens the page of a running `logitfuse serve` in headless Chromium and checks what it does.

usage: check.py URL [--key KEY] [--model NAME …] [--prompt TEXT] [--max-tokens N] [--screenshots FOLDER] [--mock]

Needs Chromium and nothing else. Exits with 1 where a check fails, with 3 where there is no browser. What a real server cannot be
asked to do, a refusal or text that looks like a page, is put between page and server inside the browser. `--mock` adds checks
that need the stand-in server's prompts.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import inside
from browser import Browser, find

NO_BROWSER = 3
RUNNING = "!document.querySelector('#stop').disabled"
IDLE = "document.querySelector('#stop').disabled"
HTML = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script></span>&amp;<b>bold</b>"


class Failed(Exception):
    pass


def expect(fact, what: str):
    if not fact:
        raise Failed(what)


class Check:
    def __init__(self, browser: Browser, options: argparse.Namespace):
        self.browser, self.options = browser, options
        self.url = options.url
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.url))
        self.notes: list[str] = []

    # ---- steps

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
            browser.js(f"document.querySelectorAll('.model > label input').forEach(b => {{ if ({wanted}.includes(b.value) !== b.checked) b.click(); }})")
        browser.js("document.querySelectorAll('#request > details').forEach(d => { d.open = true; })")
        browser.type("#prompt", prompt or self.options.prompt)
        browser.type("#max_tokens", str(tokens or self.options.max_tokens))
        browser.js("globalThis.captured = []")
        browser.click("#run")
        # What the page does at once when it is asked to run.
        expect(browser.wait(f"captured.length || document.querySelector('#key').open || {RUNNING}", 5), "pressing Run does nothing")

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
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in {"Content-Type": kind, **headers}.items()]
        encoded = base64.b64encode(body.encode()).decode()
        self.browser.send(
            "Fetch.fulfillRequest", requestId=params["requestId"], responseCode=status, responseHeaders=listed, body=encoded
        )
        return True

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

    # ---- checks

    def lists_models(self):
        self.open()
        api = self.browser.js("fetch('v1/models').then(r => r.json()).then(l => l.data.map(m => m.id))") if not self.options.key else None
        shown = self.browser.js("[...document.querySelectorAll('.model > label input')].map(i => i.value)")
        expect(shown, "no models")
        expect(api is None or api == shown, f"the page lists {shown}, the server {api}")
        checked = self.browser.js("document.querySelectorAll('.model > label input:checked').length")
        expect(checked >= 1, "no model is chosen from the start")
        self.quiet()

    def streams(self, mode: str = "completion"):
        self.open()
        self.browser.js(f"document.querySelector('input[name=mode][value={mode}]').click()")
        self.ask()
        self.end()
        self.compare()
        self.quiet()
        self.shoot(f"done-{mode}")

    def chats(self):
        self.streams("chat")

    def reads_torn_answers(self):
        """Pieces of a few bytes end anywhere: within a line, within a character."""
        self.open()
        self.browser.js("globalThis.torn = true")
        self.ask()
        self.end()
        self.compare()
        self.quiet()

    def joins_pieces(self):
        """Text that comes later than its tokens goes to the right ones: halves of characters, and what may become a stop string."""
        self.open()
        chunks = [
            ("", [("\ufffd", [0xE2, 0x82])]), ("€", [("\ufffd", [0xAC])]), ("", [(" a", None)]), (" a b", [(" b", None)]),
            (" c\n d", [(" c", None), ("\n", None), (" d", None)]), ("", [("<|end|>", None)]),
        ]  # fmt: skip
        body = ""
        for text, tokens in chunks:
            records = [{"id": 1, "token": token, "logprob": -1.0, **({"bytes": raw} if raw else {})} for token, raw in tokens]
            choice = {"index": 0, "text": text, "delta": {"content": text}, "finish_reason": None, "fusion": {"tokens": records}}
            body += f"data: {json.dumps({'choices': [choice]})}\n\n"
        body += "data: [DONE]\n\n"
        self.intercept(lambda params: "completions" in params["request"]["url"] and self.answer(params, 200, body, "text/event-stream"))
        self.ask()
        self.end(20)
        texts = self.browser.js("[...document.querySelector('.ribbon').querySelectorAll('.t')].map(t => t.textContent)")
        expect(texts == ["", "€", " a", " b", " c", "\n", " d", ""], f"the tokens' texts are {texts}")
        raw = self.browser.js("[...document.querySelector('.ribbon').querySelectorAll('.t[data-raw]')].map(t => t.dataset.raw)")
        expect(raw == ["⟨E2 82⟩", "<|end|>"], f"tokens without a text are shown as {raw}")
        self.intercept(None)
        self.quiet()

    def is_smooth_when_long(self):
        """A long text is made of several blocks, is whole, and is reached by the keyboard."""
        self.open()
        words = [f" w{number}" for number in range(1200)]
        body = ""
        for word in words:
            record = {"id": 1, "token": word, "logprob": -1.0, "trace": {}, "sources": {}}
            body += f"data: {json.dumps({'choices': [{'index': 0, 'text': word, 'delta': {'content': word}, 'fusion': {'tokens': [record]}}]})}\n\n"
        body += "data: [DONE]\n\n"
        self.intercept(lambda params: "completions" in params["request"]["url"] and self.answer(params, 200, body, "text/event-stream"))
        self.ask()
        self.end(60)
        # Blocks are found as text comes, and anew where the width changes.
        for width in (1280, 700, 1280):
            self.browser.look(width)
            self.browser.settle(0.6)
            for column in self.browser.js(inside.COLUMNS):
                expect(column["text"] == "".join(words), f"{width}: the text is not whole")
            if width != 1280:
                expect(self.browser.js("document.querySelectorAll('.ribbon .block').length") > 3, "a long text is one block")
        self.browser.js("document.querySelector('.ribbon .t').focus()")
        self.browser.press("End")
        expect(self.browser.js("document.activeElement.textContent") == words[-1], "End does not reach the last token")
        self.intercept(None)
        self.quiet()

    def compare(self):
        """Every column shows the text that the server sent, and every token."""
        columns = self.browser.js(inside.COLUMNS)
        captured = self.browser.js(f"({inside.CAPTURED})()")
        expect(len(columns) == len(captured) > 0, f"{len(columns)} columns, {len(captured)} requests")
        seeds = {json.dumps(request.get("seed")) for request, _ in captured}
        expect(len(seeds) == 1, f"columns have different seeds: {seeds}")
        for column in columns:
            sent = [(request, raw) for request, raw in captured if request["model"] == column["model"]]
            expect(len(sent) == 1, f"{column['model']}: {len(sent)} requests")
            request, raw = sent[0]
            expect(not column["error"], f"{column['model']}: {column['error']}")
            text, tokens, done = inside.joined(raw)
            expect(done, f"{column['model']}: no [DONE]")
            expect(column["text"] == text, f"{column['model']}: the page shows {column['text']!r}, the server sent {text!r}")
            expect(tokens > 0, f"{column['model']}: no `fusion.tokens`; asked with {request.get('fusion')}")
            expect(column["tokens"] == tokens, f"{column['model']}: {column['tokens']} tokens in the page, {tokens} sent")
            self.notes.append(f"{column['model']}: {tokens} tokens, {len(text)} characters")

    def keyboard(self):
        """Arrows move the focus, the panel opens and shows what the token has; Escape closes."""
        self.open()
        self.ask()
        self.end()
        browser = self.browser
        browser.js("document.querySelector('#measure').focus()")
        for _ in range(12):
            browser.press("Tab")
            if browser.js("document.activeElement.classList.contains('t')"):
                break
        place = "[...document.querySelectorAll('.t[role=option]')].indexOf(document.activeElement)"
        count = browser.js("document.querySelector('.ribbon').querySelectorAll('.t').length")
        expect(browser.js(place) == 0, "the Tab key does not reach the first token")
        for key, to in [("ArrowRight", 1), ("ArrowLeft", 0), ("End", count - 1), ("Home", 0), ("ArrowRight", min(1, count - 1))]:
            browser.press(key)
            expect(browser.js(place) == to, f"{key} goes to token {browser.js(place)} rather than {to}")
            expect(browser.js("!document.querySelector('#panel').hidden"), f"no panel after {key}")
        expect(browser.js("document.querySelectorAll('.t[tabindex=\"0\"]').length === document.querySelectorAll('.ribbon:not([hidden])').length"), "a ribbon has more than one stop")
        panel = browser.js(inside.PANEL)
        expect("log-probability" in panel["numbers"], f"no log-probability in the panel: {panel}")
        expect(panel["roles"] and all(role["choices"] for role in panel["roles"]), f"no top choices in the panel: {panel}")
        record = browser.js("document.activeElement.token.record")
        expect(len(panel["roles"]) == len(record["sources"]), f"{len(panel['roles'])} roles in the panel, {len(record['sources'])} sent")
        known = [value for value in record["trace"].values() if value is not None]
        expect(len(panel["numbers"]) >= 2 + len(known), f"a trace is missing in the panel: {panel['numbers']}")
        expect(browser.js("document.getElementById(document.activeElement.getAttribute('aria-describedby'))?.textContent"), "the token has no description")
        self.shoot("panel")
        columns = browser.js("document.querySelectorAll('.column').length")
        if columns > 1:
            browser.press("ArrowDown")
            expect(browser.js("document.activeElement.closest('.column') === document.querySelectorAll('.column')[1]"), "ArrowDown does not change the column")
        browser.press("Escape")
        expect(browser.js("document.querySelector('#panel').hidden"), "Escape does not close the panel")
        expect(browser.js("document.activeElement.classList.contains('t')"), "Escape loses the focus")
        self.quiet()

    def pointer(self):
        """A token under the pointer opens the panel; a measure changes the shades."""
        self.open()
        self.ask()
        self.end()
        self.browser.click(".ribbon .t:nth-child(2)")
        expect(self.browser.js("!document.querySelector('#panel').hidden"), "a click on a token opens no panel")
        for measure in self.browser.js("[...document.querySelector('#measure').options].map(o => o.value)"):
            self.browser.js(f"(m => {{ m.value = {json.dumps(measure)}; m.dispatchEvent(new Event('change')); }})(document.querySelector('#measure'))")
            attribute = "d" if measure == "agreement" else "s"
            shaded = self.browser.js(f"document.querySelectorAll('.ribbon .t[data-{attribute}]').length")
            fusion = self.browser.js("[...document.querySelectorAll('.column')].some(c => Object.keys(c.column.model.fusion?.roles ?? {}).length > 1)")
            expect(shaded or (measure != "logprob" and not fusion), f"no token is shaded by {measure}")
            expect(self.browser.js("document.querySelector('#legend').textContent.trim()"), f"no legend for {measure}")
        self.quiet()

    def stops(self):
        """Stop ends the run in the middle. The network is made slow, so that a fast server is not done before."""
        self.open()
        slow = {"offline": False, "latency": 50, "downloadThroughput": 8000, "uploadThroughput": 1e6}
        self.browser.call("Network.emulateNetworkConditions", **slow)
        try:
            self.ask(tokens=max(256, self.options.max_tokens))
            expect(self.browser.wait("document.querySelectorAll('.ribbon .t').length > 2", 60), "no tokens")
            expect(self.browser.js(RUNNING), "the run was over before Stop could be pressed: give a longer --max-tokens")
            self.browser.click("#stop")
            expect(self.browser.wait(IDLE, 5), "Stop does not stop")
            count = self.browser.js("document.querySelectorAll('.ribbon .t').length")
            self.browser.settle(1.0)
            expect(self.browser.js("document.querySelectorAll('.ribbon .t').length") == count, "tokens come after Stop")
            expect("Stopped" in self.browser.js("document.querySelector('#status').textContent"), "the status does not say that it stopped")
            expect(not self.browser.js("[...document.querySelectorAll('.column .error')].some(e => !e.hidden)"), "Stop is shown as an error")
            self.notes.append(f"stopped at {count} tokens")
        finally:
            self.browser.call("Network.emulateNetworkConditions", **slow | {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
        self.quiet()

    def asks_for_the_key(self):
        """401: one question for all columns, the key goes with the next request and stays for the tab."""
        self.open()
        self.browser.js("sessionStorage.removeItem('logitfuse.key')")
        self.open()
        wanted = self.options.key or "a-key"
        asked = []

        def guard(params):
            if "completions" not in params["request"]["url"]:
                return False
            sent = {name.lower(): value for name, value in params["request"]["headers"].items()}.get("authorization")
            return (sent != f"Bearer {wanted}" or not asked) and self.answer(params, 401, json.dumps({"error": {"message": "no key", "type": "invalid_request_error"}}))

        self.intercept(guard)
        self.ask()
        for key, words in [("wrong", "refused" if self.options.key else "needs an API key"), (wanted, "refused")]:
            expect(self.browser.wait("document.querySelector('#key').open", 10), "no question for the key")
            expect(words in self.browser.js("document.querySelector('#key-why').textContent"), f"the question does not say `{words}`")
            expect(self.browser.js("document.activeElement.id") == "key-value", "the key's field has no focus")
            self.browser.call("Input.insertText", text=key)
            asked.append(key)
            self.shoot("key")
            self.browser.press("Enter")
            self.browser.settle(0.3)
        self.end()
        self.compare_texts_exist()
        expect(self.browser.js("sessionStorage.getItem('logitfuse.key')") == wanted, "the key is not kept for the tab")
        expect(wanted not in self.browser.js("location.href + JSON.stringify(localStorage)"), "the key is kept elsewhere")
        self.intercept(None)
        if not self.options.key:
            self.browser.js("sessionStorage.removeItem('logitfuse.key')")
        self.quiet(expected_statuses=(401,))

    def compare_texts_exist(self):
        for column in self.browser.js(inside.COLUMNS):
            expect(column["text"] and not column["error"], f"{column['model']}: no text after the key was given; {column['error']}")

    def says_what_failed(self):
        """Errors in words with a remedy, a parameter's where the parameter is; a broken stream keeps its text."""
        chunk = {"choices": [{"index": 0, "text": " so far", "delta": {"content": " so far"}, "finish_reason": None}]}
        start = f"data: {json.dumps(chunk)}\n\n"
        error = {"error": {"message": "it failed", "type": "server_error", "param": None, "code": None}}
        stream = "text/event-stream"
        cases = [
            ((429, json.dumps(error)), {"Retry_After": "7"}, ["busy", "7 s"]),
            ((503, json.dumps(error)), {}, ["does not take requests"]),
            ((400, json.dumps({"error": {**error["error"], "param": "max_tokens"}})), {}, ["refused", "max_tokens", "it failed"]),
            ((502, "<html>Bad gateway</html>"), {}, ["server failed"]),
            ((200, start + f"data: {json.dumps(error)}\n\n", stream), {}, ["it failed", "incomplete"]),
            ((200, start, stream), {}, ["ended early", "incomplete"]),
        ]
        self.open()
        for case, headers, words in cases:
            self.intercept(lambda params: "completions" in params["request"]["url"] and self.answer(params, *case, **headers))
            self.ask()
            self.end(20)
            for column in self.browser.js(inside.COLUMNS):
                expect(all(word in column["error"] for word in words), f"{case[0]}: `{column['error']}` has not all of {words}")
                expect(len(case) == 2 or column["text"] == " so far", f"{case[0]}: the text so far is lost")
        self.shoot("errors")
        self.intercept(lambda params: self.browser.send("Fetch.failRequest", requestId=params["requestId"], errorReason="ConnectionRefused"))
        self.ask()
        self.end(20)
        expect("No answer" in self.browser.js(inside.COLUMNS)[0]["error"], "a server that is gone is not named")
        self.intercept(None)

    def shows_html_as_text(self):
        """Text, tokens, names and messages of the server are never markup."""
        self.open()
        token = {"id": 1, "token": HTML, "logprob": -0.1, "trace": {"alpha": 0.5, HTML: 1.0}}
        token["sources"] = {role: [{"id": 1, "token": HTML, "logprob": -0.5}] for role in ("base", "expert", HTML)}
        chunk = {"choices": [{"index": 0, "text": HTML, "delta": {"content": HTML}, "finish_reason": HTML, "fusion": {"tokens": [token]}}]}
        body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        self.intercept(lambda params: "completions" in params["request"]["url"] and self.answer(params, 200, body, "text/event-stream"))
        self.ask()
        self.end(20)
        self.browser.js("document.querySelector('.ribbon .t').focus()")
        for column in self.browser.js(inside.COLUMNS):
            expect(column["text"] == HTML, f"the text is {column['text']!r}")
        expect(HTML in self.browser.js("document.querySelector('#panel').textContent"), "the panel does not show the text")
        self.shoot("html")
        self.intercept(lambda params: "completions" in params["request"]["url"] and self.answer(params, 400, json.dumps({"error": {"message": HTML, "param": HTML}})))
        self.ask()
        self.end(20)
        expect(HTML in self.browser.js(inside.COLUMNS)[0]["error"], "the message is not shown as it is")
        self.browser.settle(0.3)
        expect(self.browser.js("document.title") == "logitfuse", "markup from the server ran")
        expect(self.browser.js("document.querySelectorAll('main img, main script, #panel img').length") == 0, "markup from the server became elements")
        self.intercept(None)
        self.quiet(expected_statuses=(400,))

    def fits(self):
        """At 360 pixels, nothing is wider than the window; not with everything open, nor with the panel."""
        for scheme in ("light", "dark"):
            self.browser.look(360, 740, scheme)
            self.open()
            self.ask()
            self.end()
            self.browser.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            for part in ("closed", "panel"):
                if part == "panel":
                    self.browser.js("document.querySelector('.ribbon .t').focus()")
                wide = self.browser.js(inside.TOO_WIDE)
                expect(not wide, f"{part}: wider than the window: {wide}")
                poor = self.browser.js(inside.CONTRAST)
                expect(not poor, f"{scheme}, {part}: contrast below WCAG AA: {poor[:5]}")
            self.shoot(f"phone-{scheme}")
        self.browser.look(1280)
        self.quiet()

    def is_accessible(self):
        """Whatever takes the focus has a name; the theme's switch works; contrast holds in both themes."""
        for scheme in ("light", "dark"):
            self.browser.look(1280, 900, scheme, "reduce")
            self.open()
            self.ask()
            self.end()
            self.browser.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            for measure in self.browser.js("[...document.querySelector('#measure').options].map(o => o.value)"):
                self.browser.js(f"(m => {{ m.value = {json.dumps(measure)}; m.dispatchEvent(new Event('change')); }})(document.querySelector('#measure'))")
                poor = self.browser.js(inside.CONTRAST)
                expect(not poor, f"{scheme}, {measure}: contrast below WCAG AA: {poor[:5]}")
            nodes = self.browser.call("Accessibility.getFullAXTree")["nodes"]
            for node in nodes:
                focusable = any(p["name"] == "focusable" and p["value"].get("value") for p in node.get("properties", []))
                role = node.get("role", {}).get("value")
                if focusable and not node.get("ignored") and role not in ("RootWebArea", "option", "generic", "listbox"):
                    expect(node.get("name", {}).get("value", "").strip(), f"a {role} has no name")
            moving = self.browser.js("document.getAnimations().length")
            expect(moving == 0, f"{moving} animations although less motion is preferred")
        before = self.browser.js("getComputedStyle(document.body).backgroundColor")
        self.browser.click("#theme")
        expect(self.browser.js("getComputedStyle(document.body).backgroundColor") != before, "the theme's switch does nothing")
        self.browser.js("localStorage.removeItem('logitfuse.theme')")
        self.browser.look(1280)
        self.quiet()

    def keeps_the_address(self):
        """The address holds the settings and no prompt; a link that is opened brings them back."""
        self.open()
        self.ask(prompt="a prompt that is private")
        self.end()
        self.browser.type("#temperature", "0.5")
        self.browser.settle(0.4)
        address = self.browser.js("location.href")
        expect("temperature=0.5" in address, f"the address does not hold the temperature: {address}")
        expect("private" not in address, "the address holds the prompt")
        chosen = self.browser.js("[...document.querySelectorAll('.model > label input:checked')].map(i => i.value)")
        fragment = "#" + address.split("#", 1)[1]
        self.open(fragment + "&prompt=from+a+link")
        expect(self.browser.js("document.querySelector('#temperature').value") == "0.5", "the link does not set the temperature")
        expect(self.browser.js("document.querySelector('#prompt').value") == "from a link", "the link does not set the prompt")
        expect(self.browser.js("[...document.querySelectorAll('.model > label input:checked')].map(i => i.value)") == chosen, "the link does not choose the models")
        expect(self.browser.js("document.querySelectorAll('.column').length") == 0, "a link runs by itself")
        self.quiet()

    def sends_what_changed(self):
        """Only changed parameters go with the request."""
        self.open()
        self.ask()
        self.end()
        plain = self.browser.js(f"({inside.CAPTURED})()")
        expect(all("parameters" not in request["fusion"] for request, _ in plain), "parameters are sent though none was changed")
        target = self.browser.js(inside.CHANGE_A_NUMBER)
        if target is None:
            self.notes.append("no chosen model has a number among its parameters: nothing to change")
            return
        self.ask()
        self.end()
        for request, _ in self.browser.js(f"({inside.CAPTURED})()"):
            sent = request["fusion"].get("parameters")
            expect(sent == (target["parameters"] if request["model"] == target["model"] else None), f"{request['model']}: sent {sent}, changed {target}")
        self.notes.append(f"changed {target['parameters']}")

    # ---- what only the stand-in server can be asked for

    def mock_only(self):
        for trigger, word in [("[429]", "Wait 3 s"), ("[error]", "session failed"), ("[cut]", "ended early")]:
            self.open()
            self.ask(prompt=trigger)
            self.end(30)
            error = self.browser.js(inside.COLUMNS)[0]["error"]
            expect(word in error, f"{trigger}: {error}")
        for trigger in ("[held] x", "[html] x", "[late] x"):
            self.open()
            self.ask(prompt=trigger, tokens=128)
            self.end(60)
            self.compare()
        self.open()
        self.ask(prompt="[400] x")
        self.end(30)
        wrong = self.browser.js("[...document.querySelectorAll('[data-path=kl_temperature] .wrong')].map(e => e.textContent)")
        expect(any("below 0" in text for text in wrong), f"the parameter's error is not where it stands: {wrong}")

    def all(self) -> int:
        names = [
            "lists_models", "streams", "chats", "reads_torn_answers", "joins_pieces", "is_smooth_when_long", "keyboard", "pointer", "stops", "asks_for_the_key", "says_what_failed", "shows_html_as_text",
            "fits", "is_accessible", "keeps_the_address", "sends_what_changed",
        ]  # fmt: skip
        failed = 0
        for name in [name for name in names if not self.options.only or name in self.options.only] + ["mock_only"] * self.options.mock:
            self.notes = []
            start = time.monotonic()
            try:
                getattr(self, name)()
                print(f"ok      {name} ({time.monotonic() - start:.1f} s)" + "".join(f"\n        {note}" for note in self.notes), flush=True)
            except Exception as error:  # noqa: BLE001 — whatever goes wrong in one check, the others are still of use
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
                self.shoot(f"failed-{name}")
                self.browser.look(1280)
        print(f"{len(names) + self.options.mock - failed if not self.options.only else len(self.options.only) - failed} passed, {failed} failed")
        return failed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key")
    parser.add_argument("--model", action="append", help="the models to run; the page's own choice if absent")
    parser.add_argument("--prompt", default="Question: Why does a rainbow form?\nAnswer:")
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--screenshots", type=Path)
    parser.add_argument("--only", action="append", help="a check's name")
    parser.add_argument("--mock", action="store_true")
    options = parser.parse_args()
    path = find()
    if path is None:
        print("no Chromium on this machine (`apt-get install chromium` has one): nothing was checked", file=sys.stderr)
        return NO_BROWSER
    with Browser(path) as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=inside.before(options.key))
        browser.look(1280)
        return 1 if Check(browser, options).all() else 0


if __name__ == "__main__":
    sys.exit(main())
