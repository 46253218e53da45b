"""What a server does with requests that nobody should send: no 5xx, nothing that hangs, and it works afterwards.

usage: schema_fuzz.py http://127.0.0.1:8080 --model NAME [--examples 100] [--seed 1] [--only schema|json|http|slow|large]

  schema  schemathesis makes requests from /openapi.json, right ones and wrong ones: no 5xx, and answers are as the document says
  json    bodies that are no JSON, nearly JSON, or JSON of absurd depth, size or numbers: 4xx, with `error.message`
  http    requests that are no HTTP, or HTTP of a kind that has been used to smuggle requests: 4xx, or the connection is closed
  slow    headers and bodies that trickle in, a byte a second: cut off within `--slow-limit` seconds
  large   bodies and headers without end: cut off before `--large-limit` MiB were taken

504, for an answer that took longer than the operator allows, counts as 5xx here: ask for what can be answered in time.
Packages: requirements.txt (only for `schema`).
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import common
from common import ask, check

# What schemathesis loads: a request to a model that there is not is refused before much was looked at, so most name one that is.
HOOKS = """
import schemathesis

MODEL = {model!r}

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and context.operation.path.startswith("/v1/") and isinstance(body.get("model", ""), str):
        body["model"] = MODEL
    if isinstance(body, dict) and isinstance(body.get("max_tokens"), int) and 8 < body["max_tokens"] <= 4096:
        body["max_tokens"] = 8
    return body

@schemathesis.hook
def map_path_parameters(context, parameters):
    if parameters and isinstance(parameters.get("model"), str):
        parameters["model"] = MODEL
    return parameters
"""

# As a label it would show that whoever asks can fill the memory of a collector of metrics.
STRANGER = "no-such-model-4f1c"


class Fuzzer:
    def __init__(self, args):
        self.args, self.url, self.model = args, args.url, args.model
        parts = urlsplit(args.url)
        self.address = (parts.hostname, parts.port or 80)
        self.host = f"{parts.hostname}:{parts.port or 80}"

    def works(self, after: str) -> None:
        fields = {"model": self.model, "prompt": "Question:", "max_tokens": 1, "temperature": 0}
        try:
            ask(self.url, "/v1/completions", fields, timeout=self.args.timeout).ok()
        except OSError as error:
            raise common.CheckFailed(f"the server does not answer after {after}: {error}") from None

    # schema

    def schema(self) -> str:
        """In a process of its own, as its users run it."""
        command = [
            sys.executable,
            "-c",
            "from schemathesis.cli import schemathesis; schemathesis()",
            "run",
            f"{self.url}/openapi.json",
        ]
        command += [
            "--max-examples",
            str(self.args.examples),
            "--seed",
            str(self.args.seed),
            "--phases",
            "examples,coverage,fuzzing",
        ]
        command += [
            "--checks",
            self.args.checks,
            "--request-timeout",
            str(self.args.timeout),
            "--continue-on-failure",
            "--no-color",
        ]
        for path in self.args.exclude:
            command += ["--exclude-path", path]
        if key := common.headers().get("Authorization"):
            command += ["--header", f"Authorization: {key}"]
        with tempfile.TemporaryDirectory() as folder:
            # It keeps a folder of examples where it runs.
            Path(folder, "hooks.py").write_text(HOOKS.format(model=self.model), encoding="utf-8")
            hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": folder}
            run = subprocess.run(command, cwd=folder, env={**os.environ, **hooks}, capture_output=True, text=True)
        said = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
        if run.returncode:
            print(said)
        check(run.returncode == 0, f"schemathesis ends with {run.returncode}, see above")
        tested = re.search(r"Test cases:\s*\n(.*)", said) or re.search(r"(\d+ generated.*)", said)
        self.works("schemathesis")
        return tested[1].strip() if tested else "no failures"

    # json

    def json(self) -> str:
        model = json.dumps(self.model)
        head = f'{{"model": {model}, "max_tokens": 1, "prompt": '
        bodies: dict[str, bytes] = {
            "nothing": b"",
            "white space": b"  \n",
            "half an object": b'{"model": ',
            "a list": b"[]",
            "a number": b"1",
            "null": b"null",
            "no UTF-8": head.encode() + b'"\xff\xfe"}',
            "a surrogate alone": (head + r'"\ud800"}').encode(),
            "text after the object": (head + '"a"} {}').encode(),
            "a key twice": (head + '"a", "prompt": "b"}').encode(),
            "NaN": (head + '"a", "temperature": NaN}').encode(),
            "infinity": (head + '"a", "temperature": 1e999}').encode(),
            "a huge whole number": (head + '"a", "seed": ' + "9" * 4000 + "}").encode(),
            "max_tokens of 2^64": (head + '"a", "max_tokens": 18446744073709551616}').encode(),
            "max_tokens of 2^64 - 1": (head + '"a", "max_tokens": 18446744073709551615}').encode(),
            "a million of n": (head + '"a", "n": 1000000}').encode(),
            "half a token": (head + '"a", "max_tokens": 1.5}').encode(),
            "100 000 brackets": b"[" * 100_000,
            "a prompt of 100 000 brackets": (head + "[" * 100_000 + "]" * 100_000 + "}").encode(),
            "parameters of 10 000 levels": (
                head + '"a", "fusion": {"parameters": ' + '{"a":' * 10_000 + "1" + "}" * 10_001 + "}"
            ).encode(),
            "100 000 prompts": (head + json.dumps(["a"] * 100_000) + "}").encode(),
            "no prompts": (head + "[]}").encode(),
            "no tokens": (head + "[[]]}").encode(),
            "texts and ids": (head + '["a", 1]}').encode(),
            "an id of -1": (head + "[-1]}").encode(),
            "an id of 2^31": (head + "[2147483648]}").encode(),
            "10 000 stop strings": (
                head + '"a", "stop": ' + json.dumps([f"{i}" for i in range(10_000)]) + "}"
            ).encode(),
            "an empty stop string": (head + '"a", "stop": ""}').encode(),
            "a bias on no token": (head + '"a", "logit_bias": {"x": 1}}').encode(),
            "a bias on a token too many": (head + '"a", "logit_bias": {"4294967295": 1}}').encode(),
            "a bias beyond f32": (head + '"a", "logit_bias": {"1": 1e39}}').encode(),
            "temperature -1": (head + '"a", "temperature": -1}').encode(),
            "top_p 0": (head + '"a", "top_p": 0}').encode(),
            "a model of a megabyte": json.dumps({"model": "m" * 1_000_000, "prompt": "a"}).encode(),
            "a model that is a path": json.dumps({"model": "../../etc/passwd", "prompt": "a"}).encode(),
            "a parameter that is a path": (head + '"a", "fusion": {"parameters": {"path": "/etc/passwd"}}}').encode(),
            "a field of ours that is none": (head + '"a", "fusion": {"plugin": "/tmp/x.so"}}').encode(),
            "a stranger's model": json.dumps({"model": STRANGER, "prompt": "a"}).encode(),
        }
        # Requests that some servers take, and that may not break one.
        may = {"a key twice", "a surrogate alone", "top_p 0", "a huge whole number", "an empty stop string"}
        routes = [
            "/v1/completions",
            "/v1/chat/completions",
            f"/v2/models/{self.model}/generate",
            f"/v2/models/{self.model}/generate_stream",
        ]
        asked = 0
        for name, body in bodies.items():
            for route in routes:
                answer = ask(self.url, route, body, "POST", timeout=self.args.timeout)
                asked += 1
                if route != routes[0]:
                    # Another form of body is right there; it has to be refused all the same, or be harmless.
                    check(answer.status < 500, f"{name}, to {route}: status {answer.status}: {answer.body[:300]!r}")
                    continue
                good = answer.status == 200 and name in may
                check(good or 400 <= answer.status < 500, f"{name}: status {answer.status}: {answer.body[:300]!r}")
                if not good:
                    said = answer.json()
                    check(
                        isinstance(said.get("error"), dict) and said["error"].get("message"),
                        f"{name}: no error.message: {answer.body[:300]!r}",
                    )
                    check(len(answer.body) < 10_000, f"{name}: an error of {len(answer.body)} bytes")
        for method, path in [("GET", "/v1/completions"), ("DELETE", "/v1/models"), ("POST", "/health/live"), ("GET", "/no/such/route"),
                             ("GET", "/../../etc/passwd"), ("GET", "/%2e%2e/%2e%2e/etc/passwd"), ("GET", "/v2/models/%00/generate"),
                             ("GET", "/assets/../Cargo.toml"), ("POST", "/v2/models/..%2f..%2fetc/generate")]:  # fmt: skip
            answer = ask(self.url, path, b"{}" if method == "POST" else None, method, timeout=self.args.timeout)
            asked += 1
            check(400 <= answer.status < 500, f"{method} {path}: status {answer.status}")
        counted = ask(self.url, "/metrics").body.decode(errors="replace")
        for stranger in (STRANGER, "/no/such/route", "passwd"):
            check(stranger not in counted, f"/metrics has a label from a request: {stranger}")
        self.works("malformed bodies")
        return f"{asked} requests"

    # http

    def exchange(self, data: bytes, limit: float) -> bytes:
        """What comes back until the server closes, or an answer's head and 0.5 s of silence."""
        with socket.create_connection(self.address, timeout=limit) as connection:
            try:
                connection.sendall(data)
            except OSError:
                pass
            answer, end = b"", time.monotonic() + limit
            while time.monotonic() < end:
                connection.settimeout(0.5 if b"\r\n\r\n" in answer else max(0.01, end - time.monotonic()))
                try:
                    more = connection.recv(65536)
                except TimeoutError:
                    if b"\r\n\r\n" in answer:
                        return answer
                    continue
                except OSError:
                    return answer
                if not more:
                    return answer
                answer += more
        raise TimeoutError

    def http(self) -> str:
        body = json.dumps({"model": self.model, "prompt": "a", "max_tokens": 1}).encode()
        fields = "".join(f"{name}: {value}\r\n" for name, value in common.headers().items())
        post = f"POST /v1/completions HTTP/1.1\r\nHost: {self.host}\r\n{fields}".encode()
        length = f"Content-Length: {len(body)}\r\n".encode()
        requests = {
            "noise": bytes(range(256)) * 4,
            "a TLS hello": bytes.fromhex("16030100a5010000a10303") + bytes(160),
            "no version": b"GET /\r\n\r\n",
            "HTTP/9.9": f"GET / HTTP/9.9\r\nHost: {self.host}\r\n\r\n".encode(),
            "a method of 10 000 letters": b"A" * 10_000 + b" / HTTP/1.1\r\n\r\n",
            "a path of a megabyte": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
            "a header of a megabyte": f"GET / HTTP/1.1\r\nHost: {self.host}\r\nX: ".encode()
            + b"a" * 1_000_000
            + b"\r\n\r\n",
            "10 000 headers": f"GET / HTTP/1.1\r\nHost: {self.host}\r\n".encode() + b"X: a\r\n" * 10_000 + b"\r\n",
            "a space before the colon": f"GET / HTTP/1.1\r\nHost : {self.host}\r\n\r\n".encode(),
            "a length that is none": post + b"Content-Length: 1x\r\n\r\n" + body,
            "a negative length": post + b"Content-Length: -1\r\n\r\n" + body,
            "two lengths": post + length + b"Content-Length: 3\r\n\r\n" + body,
            "a chunk that is none": post + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + body,
            "a chunk of 2^64": post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + body,
            "an unknown coding": post + b"Transfer-Encoding: banana\r\n\r\n" + body,
            "a NUL in a header": post + length + b"X: a\0b\r\n\r\n" + body,
        }
        for name, data in requests.items():
            try:
                answer = self.exchange(data, self.args.slow_limit)
            except TimeoutError:
                raise common.CheckFailed(f"{name}: neither answered nor closed in {self.args.slow_limit:g} s") from None
            if answer:
                status = re.match(rb"HTTP/\d\.\d (\d{3})", answer)
                check(status, f"{name}: {answer[:80]!r}")
                # 505 is what HTTP wants for a version that is not known.
                check(
                    400 <= int(status[1]) < 500 or (name == "HTTP/9.9" and status[1] == b"505"),
                    f"{name}: {answer[:120]!r}",
                )
        # With both, one of two servers in a row may read another request than the other. One request, one answer.
        both = (
            post
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + f"GET /v1/models HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()
        )
        answer = self.exchange(both, self.args.slow_limit)
        check(b"HTTP/1.1 5" not in answer, f"both lengths: {answer[:120]!r}")
        check(
            answer.count(b'"object":"list"') + answer.count(b'"object": "list"') == 0,
            "a request behind one with two lengths was answered",
        )
        self.works("malformed HTTP")
        return f"{len(requests) + 1} requests"

    # slow

    def trickle(self, head: bytes, drop: bytes) -> float:
        """Seconds until the server has had enough."""
        began = time.monotonic()
        with socket.create_connection(self.address, timeout=self.args.slow_limit) as connection:
            connection.sendall(head)
            while (taken := time.monotonic() - began) < self.args.slow_limit:
                connection.settimeout(1)
                try:
                    connection.sendall(drop)
                    if not connection.recv(65536):
                        return taken
                    # An answer; it is to be followed by the end.
                except TimeoutError:
                    continue
                except OSError:
                    return taken
        raise common.CheckFailed(f"still taken after {self.args.slow_limit:g} s")

    def slow(self) -> str:
        fields = "".join(f"{name}: {value}\r\n" for name, value in common.headers().items())
        post = f"POST /v1/completions HTTP/1.1\r\nHost: {self.host}\r\n{fields}".encode()
        cases = {
            "nothing at all": (b"", b""),
            "headers": (f"GET /v1/models HTTP/1.1\r\nHost: {self.host}\r\n".encode(), b"X: a\r\n"),
            "a body": (post + b"Content-Length: 100000\r\n\r\n", b" "),
            "a body in chunks": (post + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        }
        results: dict[str, float | str] = {}

        def one(name: str, head: bytes, drop: bytes) -> None:
            try:
                results[name] = self.trickle(head, drop)
            except Exception as error:  # noqa: BLE001 - told below, by the thread that waits
                results[name] = str(error)

        # Many of the first kind: they may not keep others out.
        threads = [
            threading.Thread(target=one, args=(f"{name} {i}", *case))
            for name, case in cases.items()
            for i in range(self.args.slow_clients)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        self.works(f"{len(threads)} slow clients, which are still there")
        for thread in threads:
            thread.join()
        for name, taken in results.items():
            check(isinstance(taken, float), f"{name}: {taken}")
        self.works("slow clients")
        return ", ".join(
            f"{name} {max(v for k, v in results.items() if k.rsplit(' ', 1)[0] == name):.0f} s" for name in cases
        )

    # large

    def flood(self, head: bytes, piece: bytes, stop_at: int) -> int:
        """Bytes until the server has had enough."""
        sent = 0
        with socket.create_connection(self.address, timeout=30) as connection:
            connection.sendall(head)
            while sent < stop_at:
                connection.settimeout(0)
                try:
                    if answer := connection.recv(65536):
                        check(re.match(rb"HTTP/1\.1 4\d\d", answer), f"{answer[:100]!r}")
                    return sent
                except BlockingIOError:
                    pass
                except OSError:
                    return sent
                connection.settimeout(30)
                try:
                    connection.sendall(piece)
                except TimeoutError:
                    raise common.CheckFailed(f"neither read nor refused after {sent >> 20} MiB") from None
                except OSError:
                    return sent
                sent += len(piece)
        raise common.CheckFailed(f"{sent >> 20} MiB were taken")

    def large(self) -> str:
        fields = "".join(f"{name}: {value}\r\n" for name, value in common.headers().items())
        post = f"POST /v1/completions HTTP/1.1\r\nHost: {self.host}\r\n{fields}".encode()
        limit = self.args.large_limit << 20
        spaces = b" " * 65536
        said = {
            "a body": self.flood(post + f"Content-Length: {limit * 2}\r\n\r\n".encode(), spaces, limit),
            "a body in chunks": self.flood(
                post + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + spaces + b"\r\n", limit
            ),
            "headers": self.flood(
                f"GET / HTTP/1.1\r\nHost: {self.host}\r\n".encode(), b"X: " + b"a" * 65536 + b"\r\n", limit
            ),
        }
        self.works("large requests")
        return ", ".join(f"{name} after {sent / 2**20:.1f} MiB" for name, sent in said.items())


def run() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--only", action="append", choices=["schema", "json", "http", "slow", "large"], help="may be repeated"
    )
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, for each operation")
    parser.add_argument("--seed", type=int, default=1, help="of schemathesis")
    parser.add_argument(
        "--checks",
        default="not_a_server_error,response_schema_conformance,content_type_conformance",
        help="of schemathesis",
    )
    parser.add_argument(
        "--exclude", action="append", default=[], help="a path that schemathesis leaves out; may be repeated"
    )
    parser.add_argument("--timeout", type=float, default=60, help="seconds for an answer")
    parser.add_argument("--slow-limit", type=float, default=60, help="seconds after which a slow client must be gone")
    parser.add_argument("--slow-clients", type=int, default=8, help="of each kind, at once")
    parser.add_argument("--large-limit", type=int, default=64, help="MiB before which a flood must be stopped")
    args = parser.parse_args()
    args.url = args.url.rstrip("/")
    fuzzer = Fuzzer(args)
    parts: list[tuple[str, Callable[[], str]]] = [
        ("json", fuzzer.json), ("http", fuzzer.http), ("large", fuzzer.large), ("slow", fuzzer.slow), ("schema", fuzzer.schema),
    ]  # fmt: skip
    return common.run_checks([(name, part) for name, part in parts if not args.only or name in args.only])


if __name__ == "__main__":
    common.main(run)
