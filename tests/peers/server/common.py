"""What the scripts of this folder share: one way to ask a server, to start one, and to say that a check failed.

Only the standard library, so that a script can be copied to a machine that has nothing but Python 3.11.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

# The name that OpenAI's own client and lm-eval read.
KEY_VARIABLE = "OPENAI_API_KEY"


class CheckFailed(Exception):
    """A server did not do what it promises."""


def check(condition: object, message: str) -> None:
    if not condition:
        raise CheckFailed(message)


def run_checks(checks: list[tuple[str, Callable[[], object]]]) -> int:
    """Runs all of them, whatever fails, and gives back the exit status."""
    failed = 0
    for name, run in checks:
        try:
            said = run()
        except CheckFailed as error:
            failed += 1
            print(f"FAIL  {name}: {error}", flush=True)
        except Exception as error:  # noqa: BLE001 - a client that trips over an answer is a failed check, not the end of the others
            failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"ok    {name}" + (f": {said}" if isinstance(said, str) else ""), flush=True)
    # The form that runners of tests understand.
    print(f"{len(checks) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def main(run: Callable[[], int | None]) -> None:
    """Exits 1 with one line where a check fails."""
    try:
        status = run() or 0
    except CheckFailed as error:
        print(f"FAIL  {error}", file=sys.stderr)
        status = 1
    except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
        print(f"FAIL  the server does not answer: {type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.exit(status)


def parser(doc: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def headers(more: dict[str, str] | None = None) -> dict[str, str]:
    """With the key of `OPENAI_API_KEY`, where there is one."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {}), **(more or {})}


class Answer:
    def __init__(self, status: int, fields: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, fields, body

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CheckFailed(f"status {self.status}, and no JSON: {self.body[:200]!r}: {error}") from None

    def ok(self):
        check(self.status == 200, f"status {self.status}: {self.body[:400].decode(errors='replace')}")
        return self.json()


def ask(url: str, path: str, body: object = None, method: str | None = None, timeout: float = 120) -> Answer:
    """One request on a connection of its own. `body` is sent as JSON, bytes as they are."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method or ("GET" if data is None else "POST"), path, data, headers())
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def model_names(url: str) -> list[str]:
    return [model["id"] for model in ask(url, "/v1/models").ok()["data"]]


def token_ids(url: str, model: str, text: str) -> list[int]:
    return ask(url, "/tokenize", {"model": model, "prompt": text, "add_special_tokens": False}).ok()["tokens"]


def resident_mib(pid: int) -> float:
    """Memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


class Server:
    """A server that this process started."""

    def __init__(self, command: list[str], limit: float = 120):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines: list[str] = []
        self._url: str | None = None
        self._said = threading.Event()
        for stream in (self.process.stdout, self.process.stderr):
            # Both are read to their end: a full pipe would stop the server.
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        if not self._said.wait(limit):
            self.stop()
            raise CheckFailed(f"no line says an address in {limit:g} s:\n{self.log()}")
        if self._url is None:
            raise CheckFailed(f"the server ended with {self.process.wait()} before it listened:\n{self.log()}")
        self.url = self._url
        wait_ready(self.url, limit)

    def _read(self, stream) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip("\n")
            self.lines.append(text)
            # A line by itself on stdout, or "listening on http://…" in a log.
            if self._url is None and (found := re.search(r"(?:^|\bon |\bat )(http://[^\s/;\"]+:\d+)", text)):
                self._url = found[1]
                self._said.set()
        if self.process.poll() is not None or stream is self.process.stderr:
            self._said.set()

    def log(self) -> str:
        return "\n".join(f"    {line}" for line in self.lines[-40:])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, limit: float) -> int:
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"the server still runs after {limit:g} s:\n{self.log()}") from None

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@contextmanager
def started(command: list[str], limit: float = 120) -> Iterator[Server]:
    server = Server(command, limit)
    try:
        yield server
    finally:
        server.stop()


def wait_ready(url: str, limit: float) -> None:
    end = time.monotonic() + limit
    while True:
        try:
            if (status := ask(url, "/health/ready", timeout=5).status) == 200:
                return
        except OSError as error:
            status = error
        check(time.monotonic() < end, f"/health/ready is not 200 after {limit:g} s but {status}")
        time.sleep(0.05)


def percentile(values: list[float], share: float) -> float:
    """The nearest rank; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1))]


def table(rows: list[list[str]]) -> str:
    """Columns of a first row of names, right-aligned but for the first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
