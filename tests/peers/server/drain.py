"""Stops a server while it works: does it finish what it accepted, refuse what is new, exit 0, and come back after kill -9?

usage: drain.py --model NAME [--in-flight 12] [--ban-token ID …] -- logitfuse serve CONFIG --port 0

1. The command is started, asked some questions one after the other, and then all of them at once, half of them as streams.
2. SIGTERM, once every stream has said something. New requests must be refused: 503, or no connection. Every request from before
   must be answered in full, as when it was asked alone. The exit status must be 0.
3. The command again, the load again, kill -9. The command a third time: ready, and with the answers of the first.

`--ban-token` is given a logit bias of -100: a model that ends its texts early would be done before the signal comes. Use the
end-of-sequence ids. The load must take longer than a second or so; raise `--max-tokens` or `--in-flight` where it does not.
Only the standard library; the server is asked at the address that it prints.
"""

from __future__ import annotations

import http.client
import json
import queue
import signal
import threading
import time
from urllib.parse import urlsplit

import common
from common import Server, ask, check, started


def body(args, number: int, stream: bool) -> dict:
    fields = {"model": args.model, "prompt": f"{args.prompt} {number}", "max_tokens": args.max_tokens, "seed": number}
    bias = {"logit_bias": {str(token): -100 for token in args.ban_token}} if args.ban_token else {}
    return {**fields, "temperature": 0.8, "stream": stream, **bias}


def expected(args, server: Server) -> list[str]:
    return [
        ask(server.url, "/v1/completions", body(args, i, False)).ok()["choices"][0]["text"]
        for i in range(args.in_flight)
    ]


class Flight(threading.Thread):
    """A request on its way. `begun` is set by the first chunk of a stream."""

    def __init__(self, args, url: str, number: int):
        super().__init__(daemon=True)
        self.args, self.url, self.number, self.stream = args, url, number, number % 2 == 0
        self.begun, self.text, self.problem = threading.Event(), None, None
        self.start()

    def run(self) -> None:
        try:
            self.text = self.streamed() if self.stream else self.at_once()
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            self.problem = f"{type(error).__name__}: {error}"
        self.begun.set()

    def at_once(self) -> str:
        return ask(self.url, "/v1/completions", body(self.args, self.number, False), timeout=self.args.limit).ok()[
            "choices"
        ][0]["text"]

    def streamed(self) -> str:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.args.limit)
        connection.request("POST", "/v1/completions", json.dumps(body(self.args, self.number, True)), common.headers())
        response = connection.getresponse()
        if response.status != 200:
            raise common.CheckFailed(f"status {response.status}: {response.read(300)!r}")
        text, finish = [], None
        while line := response.readline():
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                check(finish in ("stop", "length"), f"finish_reason {finish}")
                return "".join(text)
            if line.startswith(b"data:"):
                chunk = json.loads(data)
                check("error" not in chunk, f"{data[:300]!r}")
                for choice in chunk["choices"]:
                    text.append(choice["text"])
                    finish = choice["finish_reason"] or finish
                    if choice["text"]:
                        self.begun.set()
        raise common.CheckFailed(f"the stream ended after {len(text)} chunks, without [DONE]")


def in_flight(args, server: Server) -> list[Flight]:
    flights = [Flight(args, server.url, number) for number in range(args.in_flight)]
    for flight in flights:
        if flight.stream:
            check(flight.begun.wait(args.limit), f"request {flight.number} has not begun in {args.limit:g} s")
    # Those that do not stream cannot say when they were accepted. They were sent with the streams, each of which has begun.
    time.sleep(0.2)
    check(
        any(flight.is_alive() for flight in flights),
        "all were answered before the signal: raise --max-tokens or --ban-token the end",
    )
    return flights


def refusal(server: Server, args) -> str | None:
    """How a new request is refused, or None where it is answered."""
    try:
        status = ask(server.url, "/v1/completions", body(args, 0, False), timeout=args.limit).status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    return None if status == 200 else str(status)


def drained(args) -> list[str]:
    with started(args.command, args.limit) as server:
        answers = expected(args, server)
        parts = urlsplit(server.url)
        # Opened before the signal, and idle: what a client's pool holds.
        kept = http.client.HTTPConnection(parts.hostname, parts.port, timeout=args.limit)
        kept.request("GET", "/health/live", headers=common.headers())
        kept.getresponse().read()
        flights = in_flight(args, server)
        working = sum(flight.is_alive() for flight in flights)
        server.signal(signal.SIGTERM)
        # A signal is delivered when it is; what was sent before it may still be accepted.
        end, said = time.monotonic() + 10, None
        while said is None and time.monotonic() < end and server.process.poll() is None:
            said = refusal(server, args)
        still = sum(flight.is_alive() for flight in flights)
        check(said is not None or server.process.poll() is not None, "new requests are answered 10 s after SIGTERM")
        check(said != "429", "429 while draining; clients would come back")
        check(said is None or not said.isdigit() or said == "503", f"a new request is refused with {said}, not 503")
        kept_said = on_kept(kept, args)
        status = server.wait(args.limit)
        for flight in flights:
            flight.join(10)
            kind = "streamed" if flight.stream else "at once"
            check(
                flight.problem is None,
                f"request {flight.number}, {kind}, which was accepted: {flight.problem}\n{server.log()}",
            )
            check(
                flight.text == answers[flight.number],
                f"request {flight.number}, {kind}: {flight.text!r} instead of {answers[flight.number]!r}",
            )
        check(status == 0, f"exit status {status}\n{server.log()}")
        print(
            f"ok    SIGTERM with {working} of {len(flights)} requests on their way ({still} when the first new one was refused):"
        )
        print(
            f"      all answered; a new one: {said or 'had ended before'}; one on a kept connection: {kept_said}; exit status 0"
        )
        return answers


def on_kept(connection: http.client.HTTPConnection, args) -> str:
    try:
        connection.auto_open = 0
        connection.request("POST", "/v1/completions", json.dumps(body(args, 0, False)), common.headers())
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    check(response.status == 503, f"{response.status} on a kept connection while draining, not 503")
    return "503"


def killed(args, answers: list[str]) -> None:
    with started(args.command, args.limit) as server:
        flights = in_flight(args, server)
        server.signal(signal.SIGKILL)
        server.wait(args.limit)
        ends: queue.Queue[str] = queue.Queue()
        for flight in flights:
            flight.join(args.limit)
            check(not flight.is_alive(), f"request {flight.number} hangs after kill -9")
            if flight.problem:
                ends.put(flight.problem)
    with started(args.command, args.limit) as server:
        again = expected(args, server)
        for number, (before, after) in enumerate(zip(answers, again)):
            check(before == after, f"after kill -9 and a restart, answer {number} is {after!r}, it was {before!r}")
        server.signal(signal.SIGTERM)
        status = server.wait(args.limit)
        check(status == 0, f"exit status {status} of an idle server\n{server.log()}")
    print(
        f"ok    kill -9 with requests on their way ({ends.qsize()} broke off), and a restart: the same answers; idle, SIGTERM exits 0"
    )


def run() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--in-flight", type=int, default=12, help="requests at the time of the signal")
    parser.add_argument("--max-tokens", type=int, default=300)
    parser.add_argument(
        "--ban-token", type=int, action="append", default=[], help="an id that is not to be generated; may be repeated"
    )
    parser.add_argument("--prompt", default="Question: What colour is item")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which anything counts as hanging")
    parser.add_argument("command", nargs="+", help="what starts the server, after --")
    args = parser.parse_args()
    answers = drained(args)
    killed(args, answers)
    return 0


if __name__ == "__main__":
    common.main(run)
