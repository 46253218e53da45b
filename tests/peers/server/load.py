"""A load of many requests, streamed and not, some of which hang up: is every answer its own, and how long does it take?

usage: load.py http://127.0.0.1:8080 --requests 10000 --concurrency 64 [--model NAME …] [--pid PID] [--baseline 200]
       load.py http://127.0.0.1:8080 --reference answers.json …       offline answers instead of the server's own
       load.py http://127.0.0.1:8080 --write-reference answers.json   asks each distinct question alone, and no more
       load.py http://127.0.0.1:8080 --overflow 512                   a burst; some of it has to be refused with 429

First every distinct question (model, prompt, seed) is asked alone, one after the other, unless `--reference` has the answers.
Then the load: each answer, streamed or not, must equal that of its question; a request that was refused with 429 waits as long as
Retry-After says and asks again. A question's answer depends on its seed, so that an answer which belongs to another request is
noticed. Exit status 1 where one is lost, mixed up or wrong; where the server is not ready afterwards; and where its memory grew by
more than `--max-growth` after the first fifth. Times are printed and never judged.

Only the standard library. One process, one thread: it takes processor time that the server then lacks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import common
from common import CheckFailed, check

PROMPTS = Path(__file__).parents[3] / "examples/family/data"


@dataclass(frozen=True)
class Question:
    model: str
    prompt: str
    seed: int
    max_tokens: int
    temperature: float

    def body(self, stream: bool) -> dict:
        fields = {"model": self.model, "prompt": self.prompt, "seed": self.seed, "max_tokens": self.max_tokens}
        return {**fields, "temperature": self.temperature, "stream": stream}


@dataclass
class Times:
    """In seconds. Only of answers that were waited for."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    chunks: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Outcome:
    counts: Counter = field(default_factory=Counter)
    times: Times = field(default_factory=Times)
    wrong: list[str] = field(default_factory=list)


class HungUp(Exception):
    """We did, as planned."""


class Refused(Exception):
    def __init__(self, wait: float):
        super().__init__(f"429, Retry-After {wait}")
        self.wait = wait


class Connection:
    """HTTP/1.1, kept alive: as much of it as a server of JSON and event streams needs."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, path: str, body: dict) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer. A kept connection that the server has closed meanwhile is opened anew."""
        data = json.dumps(body).encode()
        fields = common.headers({"Host": f"{self.host}:{self.port}", "Content-Length": str(len(data))})
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        kept = self.writer is not None
        for again in (kept, False):
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
            try:
                self.writer.write(head.encode() + data)
                await self.writer.drain()
                line = await self.reader.readline()
                if not line:
                    raise ConnectionResetError("closed before an answer")
                break
            except ConnectionError:
                self.close()
                if not again:
                    raise
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return status, headers

    async def chunks(self, headers: dict[str, str]):
        """The body as it comes."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int((await self.reader.readline()).split(b";")[0] or b"!", 16)
                data = await self.reader.readexactly(size + 2)
                if size == 0:
                    return
                yield data[:-2]
        else:
            yield await self.reader.readexactly(int(headers["content-length"]))

    async def body(self, headers: dict[str, str]) -> bytes:
        return b"".join([data async for data in self.chunks(headers)])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def events(connection: Connection, headers: dict[str, str]):
    """The data of server-sent events, cut at blank lines and not where packets end."""
    kept = b""
    async for data in connection.chunks(headers):
        kept += data
        while b"\n\n" in kept:
            event, kept = kept.split(b"\n\n", 1)
            lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)
    check(not kept.strip(), f"a stream ended within an event: {kept[:100]!r}")


async def complete(
    connection: Connection, question: Question, stream: bool, hang_up: float | None, times: Times
) -> str:
    """The text. `hang_up` is after which part of the tokens, or of a fifth of a second, we leave."""
    began = time.perf_counter()
    if hang_up is not None and not stream:
        try:
            await asyncio.wait_for(connection.send("/v1/completions", question.body(False)), hang_up / 5)
        except TimeoutError:
            pass
        connection.close()
        raise HungUp
    status, headers = await connection.send("/v1/completions", question.body(stream))
    if status == 429:
        await connection.body(headers)
        check("retry-after" in headers, "429 without Retry-After")
        raise Refused(float(headers["retry-after"]))
    if status != 200:
        raise CheckFailed(f"status {status}: {(await connection.body(headers))[:300].decode(errors='replace')}")
    if not stream:
        answer = json.loads(await connection.body(headers))
        times.whole.append(time.perf_counter() - began)
        times.tokens += answer["usage"]["completion_tokens"]
        check(len(answer["choices"]) == 1, f"not an answer to one prompt: {answer}")
        return answer["choices"][0]["text"]
    check(headers.get("content-type", "").startswith("text/event-stream"), f"a stream of {headers.get('content-type')}")
    text, finish, last, ids, done = [], None, began, set(), False
    leave_after = None if hang_up is None else int(hang_up * question.max_tokens)
    async for data in events(connection, headers):
        if data == b"[DONE]":
            done = True
            continue
        check(not done, "an event after [DONE]")
        chunk = json.loads(data)
        check("error" not in chunk, f"an error within a stream: {data[:300]!r}")
        ids.add(chunk["id"])
        for choice in chunk["choices"]:
            check(choice["index"] == 0 and finish is None, "a choice that was not asked for, or text after its end")
            if choice["text"]:
                now = time.perf_counter()
                (times.between if text else times.first).append(now - last)
                last = now
                times.chunks += 1
                text.append(choice["text"])
            finish = choice["finish_reason"]
        if leave_after is not None and len(text) > leave_after:
            connection.close()
            raise HungUp
    check(done and finish is not None, f"a stream that ended without {'[DONE]' if finish else 'a finish_reason'}")
    check(len(ids) == 1, f"one stream has the ids {ids}")
    times.whole.append(time.perf_counter() - began)
    return "".join(text)


async def answered(
    connection: Connection,
    question: Question,
    limit: float,
    outcome: Outcome,
    stream: bool = False,
    hang_up: float | None = None,
) -> str | None:
    """Asks until the queue has room. None where we hung up."""
    while True:
        try:
            async with asyncio.timeout(limit):
                return await complete(connection, question, stream, hang_up, outcome.times)
        except Refused as refused:
            outcome.counts["refused with 429, asked again"] += 1
            await asyncio.sleep(min(refused.wait, 5) * random.uniform(0.5, 1))
        except HungUp:
            return None
        except TimeoutError:
            connection.close()
            raise CheckFailed(f"no answer in {limit:g} s") from None
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            connection.close()
            raise CheckFailed(f"the connection broke: {type(error).__name__} {error}") from None
        except CheckFailed:
            connection.close()
            raise


async def alone(url: str, questions: list[Question], limit: float) -> dict[Question, str]:
    connection, outcome = Connection(url), Outcome()
    answers = {question: await answered(connection, question, limit, outcome) for question in questions}
    connection.close()
    return answers


async def load(url: str, answers: dict[Question, str], args, requests: int, concurrency: int, at=None) -> Outcome:
    """`at(done)` is called after each request."""
    outcome, dice, questions = Outcome(), random.Random(args.seed), list(answers)
    plan = iter(
        [
            (
                dice.choice(questions),
                dice.random() < args.stream_share,
                dice.random() if dice.random() < args.disconnects else None,
            )
            for _ in range(requests)
        ]
    )
    ended = 0

    async def client() -> None:
        nonlocal ended
        connection = Connection(url)
        for question, stream, hang_up in plan:
            kind = "streamed" if stream else "at once"
            try:
                text = await answered(connection, question, args.timeout, outcome, stream, hang_up)
            except (CheckFailed, ValueError, KeyError, TypeError) as error:
                outcome.counts["failed"] += 1
                outcome.wrong.append(f"{kind}, {question}: {type(error).__name__} {error}")
                connection.close()
            else:
                if text is None:
                    outcome.counts["hung up by us"] += 1
                elif text == answers[question]:
                    outcome.counts[f"right, {kind}"] += 1
                else:
                    outcome.counts["wrong"] += 1
                    others = [other for other, said in answers.items() if said == text]
                    whose = f", which is the answer to {others[0]}" if others else ""
                    outcome.wrong.append(f"{kind}, {question}: {text!r} instead of {answers[question]!r}{whose}")
            ended += 1
            if at:
                at(ended)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    outcome.times.seconds = time.perf_counter() - began
    check(ended == requests, f"{requests - ended} requests were lost")
    return outcome


async def overflow(url: str, question: Question, args) -> None:
    """All at once, on connections of their own. Each is answered or refused, and some are refused."""

    async def one(outcome: Outcome) -> int:
        connection = Connection(url)
        try:
            async with asyncio.timeout(args.timeout):
                await complete(connection, question, False, None, outcome.times)
            return 200
        except Refused:
            return 429
        except TimeoutError:
            raise CheckFailed(f"neither answered nor refused in {args.timeout:g} s") from None
        finally:
            connection.close()

    outcome = Outcome()
    statuses = Counter(await asyncio.gather(*(one(outcome) for _ in range(args.overflow))))
    print(
        f"burst of {args.overflow}: " + ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    )
    check(statuses[429], "nothing was refused: send more at once, or start the server with a smaller --queue")
    check(statuses[200], "everything was refused")
    text = (await alone(url, [question], args.timeout))[question]
    check(text is not None, "no answer after the burst")


def questions(args) -> list[Question]:
    models = args.model or common.model_names(args.url)
    if args.prompts:
        lines = args.prompts.read_text(encoding="utf-8").splitlines()
    else:
        lines = [
            line
            for name in ("qa", "math", "mc", "sum")
            for line in (PROMPTS / f"{name}.test.jsonl").read_text(encoding="utf-8").splitlines()[:64]
        ]
    prompts = [json.loads(line)["prompt"] for line in lines]
    dice = random.Random(args.seed)
    dice.shuffle(prompts)
    check(prompts, "no prompts")
    return [
        Question(models[i % len(models)], prompts[i // len(models) % len(prompts)], dice.randrange(2**31), dice.randint(args.max_tokens // 3 or 1, args.max_tokens), args.temperature)
        for i in range(args.distinct)
    ]  # fmt: skip


def read_reference(path: Path) -> dict[Question, str]:
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {Question(**{name: entry[name] for name in Question.__annotations__}): entry["text"] for entry in entries}


def write_reference(path: Path, answers: dict[Question, str]) -> None:
    entries = [{**vars(question), "text": text} for question, text in answers.items()]
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def row(name: str, times: Times, answered: int) -> list[str]:
    cells = [
        f"{1000 * common.percentile(values, share):.1f}"
        for values in (times.first, times.between)
        for share in (0.5, 0.9, 0.99)
    ]
    return [name, *cells, f"{answered / times.seconds:.1f}", f"{times.chunks / times.seconds:.0f}"]


HEADER = ["", "first p50", "p90", "p99 ms", "between p50", "p90", "p99 ms", "answers/s", "chunks/s"]


def right(outcome: Outcome) -> int:
    return sum(count for name, count in outcome.counts.items() if name.startswith("right"))


def options(parser) -> None:
    parser.add_argument("--model", action="append", help="instead of all that /v1/models lists; may be repeated")
    parser.add_argument("--prompts", type=Path, help='lines of JSON with "prompt", instead of items of examples/family')
    parser.add_argument("--distinct", type=int, default=128, help="distinct questions")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument(
        "--max-tokens", type=int, default=32, help="the most that a request asks for; the least is a third"
    )
    parser.add_argument("--stream-share", type=float, default=0.5, help="the share of requests that stream")
    parser.add_argument("--disconnects", type=float, default=0.05, help="the share that hangs up")
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which a request counts as lost")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of requests")


def run() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    options(parser)
    parser.add_argument(
        "--reference",
        type=Path,
        help="answers made elsewhere: a list of model, prompt, seed, max_tokens, temperature, text",
    )
    parser.add_argument("--write-reference", type=Path, help="write such a file, and end")
    parser.add_argument(
        "--baseline", type=int, default=0, help="this many requests one at a time first, as a row of the table"
    )
    parser.add_argument("--overflow", type=int, help="only a burst of so many requests at once")
    parser.add_argument("--pid", type=int, help="the server's process, whose memory is read")
    parser.add_argument(
        "--max-growth", type=float, default=64, help="MiB by which it may grow after the first fifth of the load"
    )
    args = parser.parse_args()
    args.url = args.url.rstrip("/")

    if args.overflow:
        asyncio.run(overflow(args.url, questions(args)[0], args))
        return 0
    if args.reference:
        answers = read_reference(args.reference)
    else:
        answers = asyncio.run(alone(args.url, questions(args), args.timeout))
    if args.write_reference:
        write_reference(args.write_reference, answers)
        return 0
    different = len(set(answers.values()))
    check(
        different > len(answers) // 2,
        f"{len(answers)} questions have only {different} different answers: a mix-up would not be seen",
    )

    rows = [HEADER]
    if args.baseline:
        quiet = argparse.Namespace(**{**vars(args), "disconnects": 0.0})
        outcome = asyncio.run(load(args.url, answers, quiet, args.baseline, 1))
        rows.append(row("one at a time", outcome.times, right(outcome)))
        report_wrong(outcome)

    memory: dict[str, float] = {}

    def at(done: int) -> None:
        if args.pid and done == max(1, args.requests // 5):
            memory["after a fifth"] = common.resident_mib(args.pid)

    if args.pid:
        memory["before"] = common.resident_mib(args.pid)
    outcome = asyncio.run(load(args.url, answers, args, args.requests, args.concurrency, at))
    if args.pid:
        memory["after"] = common.resident_mib(args.pid)

    rows.append(row(f"{args.concurrency} at a time", outcome.times, right(outcome)))
    print(common.table(rows))
    print(
        f"{len(answers)} questions, {different} different answers; "
        + ", ".join(f"{count} {name}" for name, count in sorted(outcome.counts.items()))
    )
    if memory:
        print("resident memory, MiB: " + ", ".join(f"{name} {value:.1f}" for name, value in memory.items()))
    report_wrong(outcome)
    check(right(outcome), "no request was answered")
    common.wait_ready(args.url, 30)
    if memory:
        growth = memory["after"] - memory["after a fifth"]
        check(growth <= args.max_growth, f"memory grew by {growth:.1f} MiB after the first fifth of the load")
    return 0


def report_wrong(outcome: Outcome) -> None:
    for line in outcome.wrong[:10]:
        print(f"  {line}")
    check(not outcome.wrong, f"{len(outcome.wrong)} requests have no answer or a wrong one")


if __name__ == "__main__":
    common.main(run)
