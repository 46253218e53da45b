"""Checks of what a server seldom does: torn, late and long answers, refusals, and text that looks like a page."""

from __future__ import annotations

import json

import inside
from driver import Driver, expect

HTML = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script></span>&amp;<b>bold</b>"


def said(text: str, records: list[dict]) -> dict:
    """A choice of a chunk, good for both endpoints."""
    return {"text": text, "delta": {"content": text}, "fusion": {"tokens": records}}


class Trouble(Driver):
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
        choices = []
        for text, tokens in chunks:
            records = [
                {"id": 1, "token": token, "logprob": -1.0} | ({"bytes": raw} if raw else {}) for token, raw in tokens
            ]
            choices.append(said(text, records))
        self.stream(*choices)
        self.ask()
        self.end(20)
        texts = self.browser.js("[...document.querySelector('.ribbon').querySelectorAll('.t')].map(t => t.textContent)")
        expect(texts == ["", "€", " a", " b", " c", "\n", " d", ""], f"the tokens' texts are {texts}")
        raw = self.browser.js(
            "[...document.querySelector('.ribbon').querySelectorAll('.t[data-raw]')].map(t => t.dataset.raw)"
        )
        expect(raw == ["⟨E2 82⟩", "<|end|>"], f"tokens without a text are shown as {raw}")
        self.intercept(None)
        self.quiet()

    def keeps_long_texts_whole(self):
        """A long text is made of several blocks, is whole, and is reached by the keyboard."""
        self.open()
        words = [f" w{number}" for number in range(1200)]
        self.stream(
            *(said(word, [{"id": 1, "token": word, "logprob": -1.0, "trace": {}, "sources": {}}]) for word in words)
        )
        self.ask()
        self.end(60)
        # Blocks are found as text comes, and anew where the width changes.
        for width in (1280, 700, 1280):
            self.browser.look(width)
            self.browser.settle(0.6)
            for column in self.browser.js(inside.COLUMNS):
                expect(column["text"] == "".join(words), f"{width}: the text is not whole")
            if width != 1280:
                expect(
                    self.browser.js("document.querySelectorAll('.ribbon .block').length") > 3,
                    "a long text is one block",
                )
        self.browser.js("document.querySelector('.ribbon .t').focus()")
        self.browser.press("End")
        expect(self.browser.js("document.activeElement.textContent") == words[-1], "End does not reach the last token")
        self.intercept(None)
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
            return (sent != f"Bearer {wanted}" or not asked) and self.answer(
                params, 401, json.dumps({"error": {"message": "no key", "type": "invalid_request_error"}})
            )

        self.intercept(guard)
        self.ask()
        for key, words in [("wrong", "refused" if self.options.key else "needs an API key"), (wanted, "refused")]:
            expect(self.browser.wait("document.querySelector('#key').open", 10), "no question for the key")
            expect(
                words in self.browser.js("document.querySelector('#key-why').textContent"),
                f"the question does not say `{words}`",
            )
            expect(self.browser.js("document.activeElement.id") == "key-value", "the key's field has no focus")
            self.browser.call("Input.insertText", text=key)
            asked.append(key)
            self.shoot("key")
            self.browser.press("Enter")
            self.browser.settle(0.3)
        self.end()
        self.compare_texts_exist()
        expect(self.browser.js("sessionStorage.getItem('logitfuse.key')") == wanted, "the key is not kept for the tab")
        expect(
            wanted not in self.browser.js("location.href + JSON.stringify(localStorage)"), "the key is kept elsewhere"
        )
        self.intercept(None)
        if not self.options.key:
            self.browser.js("sessionStorage.removeItem('logitfuse.key')")
        self.quiet(expected_statuses=(401,))

    def compare_texts_exist(self):
        for column in self.browser.js(inside.COLUMNS):
            expect(
                column["text"] and not column["error"],
                f"{column['model']}: no text after the key was given; {column['error']}",
            )

    def says_what_failed(self):
        """Errors in words with a remedy, a parameter's where the parameter is; a broken stream keeps its text."""
        chunk = {"choices": [{"index": 0, "finish_reason": None} | said(" so far", [])]}
        start = f"data: {json.dumps(chunk)}\n\n"
        error = {"error": {"message": "it failed", "type": "server_error", "param": None, "code": None}}
        stream = "text/event-stream"
        cases = [
            ((429, json.dumps(error)), {"Retry_After": "7"}, ["busy", "7 s"]),
            ((503, json.dumps(error)), {}, ["does not take requests"]),
            (
                (400, json.dumps({"error": error["error"] | {"param": "max_tokens"}})),
                {},
                ["refused", "max_tokens", "it failed"],
            ),
            ((502, "<html>Bad gateway</html>"), {}, ["server failed"]),
            ((200, start + f"data: {json.dumps(error)}\n\n", stream), {}, ["it failed", "incomplete"]),
            ((200, start, stream), {}, ["ended early", "incomplete"]),
        ]
        self.open()
        for case, headers, words in cases:
            self.reply(*case, **headers)
            self.ask()
            self.end(20)
            for column in self.browser.js(inside.COLUMNS):
                expect(
                    all(word in column["error"] for word in words),
                    f"{case[0]}: `{column['error']}` has not all of {words}",
                )
                expect(len(case) == 2 or column["text"] == " so far", f"{case[0]}: the text so far is lost")
        self.shoot("errors")
        # The server is gone.
        self.intercept(
            lambda params: self.browser.send("Fetch.failRequest", requestId=params["requestId"], errorReason="Failed")
        )
        self.ask()
        self.end(20)
        expect("No answer" in self.browser.js(inside.COLUMNS)[0]["error"], "a server that is gone is not named")
        self.intercept(None)

    def shows_html_as_text(self):
        """Text, tokens, names and messages of the server are never markup."""
        self.open()
        token = {"id": 1, "token": HTML, "logprob": -0.1, "trace": {"alpha": 0.5, HTML: 1.0}}
        token["sources"] = {role: [{"id": 1, "token": HTML, "logprob": -0.5}] for role in ("base", "expert", HTML)}
        self.stream(said(HTML, [token]) | {"finish_reason": HTML})
        self.ask()
        self.end(20)
        self.browser.js("document.querySelector('.ribbon .t').focus()")
        for column in self.browser.js(inside.COLUMNS):
            expect(column["text"] == HTML, f"the text is {column['text']!r}")
        expect(
            HTML in self.browser.js("document.querySelector('#panel').textContent"), "the panel does not show the text"
        )
        self.shoot("html")
        self.reply(400, json.dumps({"error": {"message": HTML, "param": HTML}}))
        self.ask()
        self.end(20)
        expect(HTML in self.browser.js(inside.COLUMNS)[0]["error"], "the message is not shown as it is")
        self.browser.settle(0.3)
        expect(self.browser.js("document.title") == "logitfuse", "markup from the server ran")
        expect(
            self.browser.js("document.querySelectorAll('main img, main script, #panel img').length") == 0,
            "markup from the server became elements",
        )
        self.intercept(None)
        self.quiet(expected_statuses=(400,))
