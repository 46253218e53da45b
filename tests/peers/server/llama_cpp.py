"""The same load to our server and to another one that speaks OpenAI's API, side by side: a table of times.

usage: llama_cpp.py --ours http://127.0.0.1:8080 --our-model smollm2 --theirs http://127.0.0.1:8081 [--their-model NAME]
                    [--requests 128] [--concurrency 1 --concurrency 8]

Both are asked one after the other, never at once, for the same greedy streams of the same length; warm-up requests are not counted.
Nothing is judged but that every stream is complete. Quantisations differ, and so may texts; how many begin alike is printed.

The other server can be that of llama-cpp-python, over the file that our SmolLM2 is made from (README.md has the set-up):

    python -m llama_cpp.server --model …/gguf/SmolLM2-135M-Instruct.Q4_1.gguf --port 8081 --n_ctx 8192 --n_threads 2

It answers one request at a time. `llama-server` of the llama.cpp that comes with it has slots (`-np 8`). Say in a result which one
it was, the weights of both sides, and the threads. Only the standard library.
"""

from __future__ import annotations

import asyncio
import os
import time
from argparse import Namespace
from dataclasses import dataclass, field

import common
import load
from common import check
from load import Connection, Question, Times


@dataclass
class Side:
    name: str
    url: str
    model: str
    texts: dict[str, str] = field(default_factory=dict)


async def ask_all(side: Side, prompts: list[str], args, concurrency: int) -> Times:
    times, plan = Times(), iter(prompts)

    async def client() -> None:
        connection = Connection(side.url)
        for prompt in plan:
            question = Question(side.model, prompt, 1, args.max_tokens, 0)
            async with asyncio.timeout(args.timeout):
                side.texts[prompt] = await load.complete(connection, question, True, None, times)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    times.seconds = time.perf_counter() - began
    return times


def first_model(url: str) -> str:
    names = common.model_names(url)
    check(names, f"{url} lists no models")
    return names[0]


def run() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--ours", required=True, help="where our server listens")
    parser.add_argument("--our-model", help="instead of the first that it lists")
    parser.add_argument("--theirs", required=True, help="where the other server listens")
    parser.add_argument("--their-model", help="instead of the first that it lists")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--concurrency", type=int, action="append", help="may be repeated; 1 and 8 if absent")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one answer")
    parser.add_argument(
        "--prompts", type=load.Path, help='lines of JSON with "prompt", instead of items of examples/family'
    )
    args = parser.parse_args()
    sides = [
        Side("ours", args.ours.rstrip("/"), args.our_model or first_model(args.ours.rstrip("/"))),
        Side("theirs", args.theirs.rstrip("/"), args.their_model or first_model(args.theirs.rstrip("/"))),
    ]
    fields = Namespace(
        model=["any"], prompts=args.prompts, seed=1, max_tokens=args.max_tokens, distinct=args.requests, temperature=0
    )
    # A prompt that comes twice would be in somebody's cache.
    prompts = list(dict.fromkeys(question.prompt for question in load.questions(fields)))
    check(len(prompts) == args.requests, f"there are only {len(prompts)} different prompts; ask for no more --requests")
    rows = [load.HEADER]
    for concurrency in args.concurrency or [1, 8]:
        for side in sides:
            asyncio.run(
                ask_all(
                    side,
                    [f"{prompt} Warm-up {number}." for number, prompt in enumerate(prompts[:4])],
                    args,
                    concurrency,
                )
            )
            side.texts.clear()
            times = asyncio.run(ask_all(side, prompts, args, concurrency))
            rows.append(load.row(f"{side.name}, {concurrency} at a time", times, len(prompts)))
    print(common.table(rows))
    alike = [len(os.path.commonprefix([sides[0].texts[prompt], sides[1].texts[prompt]])) for prompt in prompts]
    print(f"{len(prompts)} prompts; a chunk is a token as a rule. Texts begin alike for {sum(alike) / len(alike):.0f} characters in the mean; "
          f"{sum(sides[0].texts[p] == sides[1].texts[p] for p in prompts)} are equal.")  # fmt: skip
    return 0


if __name__ == "__main__":
    common.main(run)
