"""A stand-in for `logitfuse serve`: the page's files, and answers with invented numbers that fit together.

usage: mock.py [--port N] [--key KEY] [--delay SECONDS] [--assets FOLDER]

Prints its address. A prompt may ask for trouble: `[400]`, `[404]`, `[429]`, `[500]`, `[503]`, `[error]` (in the stream), `[cut]`
(the stream ends early), `[html]` (text that looks like a page), `[held]` (text comes later than its tokens), `[late]` (the first
token after two seconds), `[fast]` (no delay at all).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import answers

ASSETS = Path(__file__).resolve().parents[3] / "server/assets"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
REFUSALS = {
    "[400]": (400, "invalid_request_error", "alpha: -1 is below 0", "fusion.parameters.kl_temperature"),
    "[404]": (404, "invalid_request_error", "the model `[404]` does not exist", "model"),
    "[429]": (429, "rate_limit_error", "the queue is full", None),
    "[500]": (500, "server_error", "base: the session failed", None),
    "[503]": (503, "server_error", "the server is shutting down", None),
}


class Refused(Exception):
    def __init__(self, status: int, kind: str, message: str, param: str | None = None):
        super().__init__(message)
        self.status, self.kind, self.param = status, kind, param

    def body(self) -> dict:
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": None}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key: str | None = None
    delay = 0.03
    assets = ASSETS

    def do_GET(self):
        path = self.path.split("?")[0]
        try:
            if path == "/v1/models":
                self.allow()
                self.json(200, {"object": "list", "data": answers.MODELS})
            else:
                self.file("index.html" if path == "/" else path.lstrip("/"))
        except Refused as refused:
            self.json(refused.status, refused.body())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.allow()
            request = json.loads(body)
            chat = {"/v1/completions": False, "/v1/chat/completions": True}.get(self.path)
            if chat is None:
                raise Refused(404, "invalid_request_error", "no such path")
            prompt = request["messages"][-1]["content"] if chat else request["prompt"]
            for trigger, (status, kind, message, param) in REFUSALS.items():
                if trigger in prompt:
                    raise Refused(status, kind, message, param)
            if request["model"] not in [model["id"] for model in answers.MODELS]:
                raise Refused(404, "invalid_request_error", f"the model `{request['model']}` does not exist", "model")
            self.complete(request, prompt, chat)
        except Refused as refused:
            self.json(refused.status, refused.body(), {"Retry-After": "3"} if refused.status == 429 else {})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def allow(self):
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            raise Refused(401, "invalid_request_error", "this server needs an API key")

    def complete(self, request: dict, prompt: str, chat: bool):
        wanted = request.get("fusion", {})
        settings = wanted.get("parameters", {})
        rng = random.Random(f"{request['model']} {request.get('seed')} {json.dumps(settings)}")
        count = int(request.get("max_tokens", 64))
        tokens = answers.tokens(request["model"], rng, count, html="[html]" in prompt, settings=settings)
        head = {
            "id": f"cmpl-{rng.randrange(10**9)}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": request["model"],
        }
        self.send_response(200)
        self.common("text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if "[late]" in prompt:
            time.sleep(2)

        def say(text: str, fusion: list | None, finish: str | None):
            choice = {"index": 0, "finish_reason": finish}
            choice |= {"delta": {"content": text}} if chat else {"text": text, "logprobs": None}
            if fusion is not None and wanted.get("trace"):
                choice["fusion"] = {"tokens": fusion}
            self.event(head | {"choices": [choice]})

        if chat:
            self.event(
                head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
            )
        held, waiting, sent = "", [], 0
        for at, (text, token) in enumerate(tokens):
            if "[fast]" not in prompt:
                # A fusion runs all of its models, so it is slower than any of them.
                time.sleep(self.delay * (1.6 if len(token["sources"]) > 1 else 1.0))
            if "[error]" in prompt and at == 12:
                self.event(
                    {
                        "error": {
                            "message": "expert: the session failed",
                            "type": "server_error",
                            "param": None,
                            "code": None,
                        }
                    }
                )
                return self.end()
            if "[cut]" in prompt and at == 12:
                self.close_connection = True
                return self.connection.close()
            if "[held]" in prompt and at % 5 in (1, 2):
                say("", [token], None)
                held += text
            elif "[held]" in prompt and at % 5 == 3:
                waiting.append(token)
                held += text
            else:
                say(held + text, [*waiting, token], None)
                held, waiting = "", []
            sent += 1
        say(held, waiting, "length" if sent == count else "stop")
        usage = {"prompt_tokens": max(1, len(prompt) // 4), "completion_tokens": sent}
        self.event(head | {"choices": [], "usage": usage | {"total_tokens": sum(usage.values())}})
        self.write(b"data: [DONE]\n\n")
        self.end()

    def event(self, data: dict):
        self.write(b"data: " + json.dumps(data).encode() + b"\n\n")

    def write(self, data: bytes):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def json(self, status: int, value: dict, headers: dict | None = None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.common("application/json")
        for name, content in (headers or {}).items():
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def file(self, name: str):
        path = self.assets / name
        if path.parent != self.assets or not path.is_file():
            raise Refused(404, "invalid_request_error", "no such path")
        body = path.read_bytes()
        self.send_response(200)
        self.common(TYPES.get(path.suffix, "application/octet-stream") + "; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def common(self, kind: str):
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        for name, content in HEADERS.items():
            self.send_header(name, content)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--delay", type=float, default=0.03)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    options = parser.parse_args()
    Handler.key, Handler.delay, Handler.assets = options.key, options.delay, options.assets.resolve()
    server = Server(("127.0.0.1", options.port), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
