"""Opens the page of a running `logitfuse serve` in headless Chromium and checks what it does.

usage: check.py URL [--key KEY] [--model NAME …] [--prompt TEXT] [--max-tokens N] [--screenshots FOLDER] [--mock]

Needs Chromium and nothing else. Exits with 1 where a check fails, with 3 where there is no browser. What a real server cannot be
asked to do, a refusal or text that looks like a page, is put between page and server inside the browser. `--mock` adds checks
that need the stand-in server's prompts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import inside
from browser import Browser, find
from driver import IDLE, RUNNING, expect
from trouble import Trouble

NO_BROWSER = 3
NAMES = """
    lists_models streams chats reads_torn_answers joins_pieces keeps_long_texts_whole keyboard pointer stops asks_for_the_key
    says_what_failed shows_html_as_text fits is_accessible keeps_the_address sends_what_changed
""".split()


class Check(Trouble):
    def lists_models(self):
        self.open()
        api = (
            self.browser.js("fetch('v1/models').then(r => r.json()).then(l => l.data.map(m => m.id))")
            if not self.options.key
            else None
        )
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
            expect(
                column["text"] == text,
                f"{column['model']}: the page shows {column['text']!r}, the server sent {text!r}",
            )
            expect(tokens > 0, f"{column['model']}: no `fusion.tokens`; asked with {request.get('fusion')}")
            expect(
                column["tokens"] == tokens, f"{column['model']}: {column['tokens']} tokens in the page, {tokens} sent"
            )
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
        for key, to in [
            ("ArrowRight", 1),
            ("ArrowLeft", 0),
            ("End", count - 1),
            ("Home", 0),
            ("ArrowRight", min(1, count - 1)),
        ]:
            browser.press(key)
            expect(browser.js(place) == to, f"{key} goes to token {browser.js(place)} rather than {to}")
            expect(browser.js("!document.querySelector('#panel').hidden"), f"no panel after {key}")
        expect(
            browser.js(
                "[...document.querySelectorAll('.ribbon')].every(r => r.querySelectorAll('.t[tabindex=\"0\"]').length === 1)"
            ),
            "a ribbon has more than one stop",
        )
        panel = browser.js(inside.PANEL)
        expect("log-probability" in panel["numbers"], f"no log-probability in the panel: {panel}")
        expect(
            panel["roles"] and all(role["choices"] for role in panel["roles"]), f"no top choices in the panel: {panel}"
        )
        record = browser.js("document.activeElement.token.record")
        expect(
            len(panel["roles"]) == len(record["sources"]),
            f"{len(panel['roles'])} roles in the panel, {len(record['sources'])} sent",
        )
        known = [value for value in record["trace"].values() if value is not None]
        expect(len(panel["numbers"]) >= 2 + len(known), f"a trace is missing in the panel: {panel['numbers']}")
        expect(
            browser.js("document.getElementById(document.activeElement.getAttribute('aria-describedby'))?.textContent"),
            "the token has no description",
        )
        self.shoot("panel")
        columns = browser.js("document.querySelectorAll('.column').length")
        if columns > 1:
            browser.press("ArrowDown")
            expect(
                browser.js("document.activeElement.closest('.column') === document.querySelectorAll('.column')[1]"),
                "ArrowDown does not change the column",
            )
        browser.press("Escape")
        expect(browser.js("document.querySelector('#panel').hidden"), "Escape does not close the panel")
        expect(browser.js("document.activeElement.classList.contains('t')"), "Escape loses the focus")
        browser.js("document.querySelector('.skip').focus()")
        browser.press("Enter")
        browser.settle(0.3)
        expect(browser.js("document.activeElement.id") == "results", "the skip link does not go to the results")
        expect(
            browser.js("document.querySelectorAll('.column').length") == columns, "the skip link loads the page again"
        )
        self.quiet()

    def pointer(self):
        """A token under the pointer opens the panel; a measure changes the shades."""
        self.open()
        self.ask()
        self.end()
        self.browser.click(".ribbon .t:nth-child(2)")
        expect(self.browser.js("!document.querySelector('#panel').hidden"), "a click on a token opens no panel")
        for measure in self.browser.js("[...document.querySelector('#measure').options].map(o => o.value)"):
            self.shade(measure)
            attribute = "d" if measure == "agreement" else "s"
            shaded = self.browser.js(f"document.querySelectorAll('.ribbon .t[data-{attribute}]').length")
            fusion = self.browser.js(
                "[...document.querySelectorAll('.column')].some(c => Object.keys(c.column.model.fusion?.roles ?? {}).length > 1)"
            )
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
            expect(
                self.browser.js(RUNNING), "the run was over before Stop could be pressed: give a longer --max-tokens"
            )
            self.browser.click("#stop")
            expect(self.browser.wait(IDLE, 5), "Stop does not stop")
            count = self.browser.js("document.querySelectorAll('.ribbon .t').length")
            self.browser.settle(1.0)
            expect(self.browser.js("document.querySelectorAll('.ribbon .t').length") == count, "tokens come after Stop")
            expect(
                "Stopped" in self.browser.js("document.querySelector('#status').textContent"),
                "the status does not say that it stopped",
            )
            expect(
                not self.browser.js("[...document.querySelectorAll('.column .error')].some(e => !e.hidden)"),
                "Stop is shown as an error",
            )
            self.notes.append(f"stopped at {count} tokens")
        finally:
            self.browser.call(
                "Network.emulateNetworkConditions",
                **slow | {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
            )
        self.quiet()

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
        self.browser.press("Escape")
        self.browser.tap(".ribbon .t:nth-child(3)")
        expect(self.browser.wait("!document.querySelector('#panel').hidden", 2), "a tap on a token opens no panel")
        box = "document.querySelector('%s').getBoundingClientRect()"
        covered = f"{box % '.t.open'}.bottom > {box % '#panel'}.top"
        expect(not self.browser.js(covered), "the panel covers its token")
        self.browser.tap("#panel .close")
        expect(self.browser.wait("document.querySelector('#panel').hidden", 2), "the panel's button does not close it")
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
                self.shade(measure)
                poor = self.browser.js(inside.CONTRAST)
                expect(not poor, f"{scheme}, {measure}: contrast below WCAG AA: {poor[:5]}")
            nodes = self.browser.call("Accessibility.getFullAXTree")["nodes"]
            for node in nodes:
                focusable = any(
                    p["name"] == "focusable" and p["value"].get("value") for p in node.get("properties", [])
                )
                role = node.get("role", {}).get("value")
                if (
                    focusable
                    and not node.get("ignored")
                    and role not in ("RootWebArea", "option", "generic", "listbox")
                ):
                    expect(node.get("name", {}).get("value", "").strip(), f"a {role} has no name")
            moving = self.browser.js("document.getAnimations().length")
            expect(moving == 0, f"{moving} animations although less motion is preferred")
        before = self.browser.js("getComputedStyle(document.body).backgroundColor")
        self.browser.click("#theme")
        expect(
            self.browser.js("getComputedStyle(document.body).backgroundColor") != before,
            "the theme's switch does nothing",
        )
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
        expect(
            self.browser.js("document.querySelector('#temperature').value") == "0.5",
            "the link does not set the temperature",
        )
        expect(
            self.browser.js("document.querySelector('#prompt').value") == "from a link",
            "the link does not set the prompt",
        )
        expect(
            self.browser.js("[...document.querySelectorAll('.model > label input:checked')].map(i => i.value)")
            == chosen,
            "the link does not choose the models",
        )
        expect(self.browser.js("document.querySelectorAll('.column').length") == 0, "a link runs by itself")
        self.quiet()

    def sends_what_changed(self):
        """Only changed parameters go with the request."""
        self.open()
        self.ask()
        self.end()
        plain = self.browser.js(f"({inside.CAPTURED})()")
        expect(
            all("parameters" not in request["fusion"] for request, _ in plain),
            "parameters are sent though none was changed",
        )
        target = self.browser.js(inside.CHANGE_A_NUMBER)
        if target is None:
            self.notes.append("no chosen model has a number among its parameters: nothing to change")
            return
        self.ask()
        self.end()
        for request, _ in self.browser.js(f"({inside.CAPTURED})()"):
            sent = request["fusion"].get("parameters")
            expect(
                sent == (target["parameters"] if request["model"] == target["model"] else None),
                f"{request['model']}: sent {sent}, changed {target}",
            )
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
        wrong = self.browser.js(
            "[...document.querySelectorAll('[data-path=kl_temperature] .wrong')].map(e => e.textContent)"
        )
        expect(any("below 0" in text for text in wrong), f"the parameter's error is not where it stands: {wrong}")

    def all(self) -> int:
        names = [name for name in NAMES if not self.options.only or name in self.options.only]
        names += ["mock_only"] * (self.options.mock and (not self.options.only or "mock_only" in self.options.only))
        failed = 0
        for name in names:
            self.notes = []
            start = time.monotonic()
            try:
                getattr(self, name)()
                print(
                    f"ok      {name} ({time.monotonic() - start:.1f} s)"
                    + "".join(f"\n        {note}" for note in self.notes),
                    flush=True,
                )
            except Exception as error:  # noqa: BLE001 — whatever goes wrong in one check, the others are still of use
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
                self.shoot(f"failed-{name}")
                self.browser.look(1280)
        print(f"{len(names) - failed} passed, {failed} failed")
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
