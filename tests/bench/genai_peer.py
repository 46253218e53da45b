"""onnxruntime-genai as a benchmark peer that takes turns: it works only while it is asked to.

usage: genai_peer.py FOLDER [--threads N] [--spin on|off] [--speculate TOKENS (--ngram N | --draft FOLDER)]

`--speculate` drafts so many tokens at a time: from what follows the last occurrence of the last N - 1 tokens (`--ngram`),
or with another model of the same vocabulary (`--draft`). Both are genai's own.

Reads a request a line, answers each with a line of JSON:
  run NEW_TOKENS ID ID …   generates greedily after the prompt ID ID …:
                           {"first_token_ms": …, "token_ms": […], "tokens": […]}
                           `first_token_ms` is the prompt's pass and the first choice; each entry of `token_ms` is one
                           pass over one token and the choice after it, so there is one entry less than tokens; with
                           `--speculate` an accepted token's entry is next to nothing, and their mean is what counts
  memory                   {"resident_bytes": …, "peak_resident_bytes": …}
Says {"ready": true, "load_ms": …} first; ends with its input.

Interleaving the runs of two programs is the only fair comparison on a machine that others use too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as og


def load(folder: Path, threads: int, spin: bool, draft: Path | None = None) -> og.Model:
    options = {"intra_op_num_threads": threads, "session.intra_op.allow_spinning": "1" if spin else "0"}
    model = {"decoder": {"session_options": options}}
    if draft:
        decoder = json.loads((draft / "genai_config.json").read_text())["model"]["decoder"]
        # genai looks for a draft model's file from the folder of the model that it drafts for.
        file = os.path.relpath(draft / decoder["filename"], folder)
        model |= {"type": "speculative", "draft": {**decoder, "filename": file, "session_options": options}}
    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": model}))
    return og.Model(config)


def generate(model: og.Model, prompt: list[int], new_tokens: int, speculation: dict[str, int]) -> dict:
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(prompt) + new_tokens, do_sample=False)
    if speculation:
        params.set_speculative_options(**speculation)
    generator = og.Generator(model, params)
    ids = np.array(prompt, np.int32)
    marks, tokens = [time.perf_counter()], []
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
        marks.append(time.perf_counter())
    first, *others = (1000 * np.diff(marks)).tolist()
    return {"first_token_ms": first, "token_ms": others, "tokens": tokens}


def memory() -> dict:
    # Not `getrusage`: its peak outlives `exec`, so it would hold what the program that started this one once held.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, peak = (1024 * int(status[line].split()[0]) for line in ("VmRSS", "VmHWM"))
    return {"resident_bytes": resident, "peak_resident_bytes": peak}


def answer(value: dict) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as ONNX Runtime likes")
    parser.add_argument("--spin", choices=["on", "off"], default="on")
    parser.add_argument("--speculate", type=int, default=0)
    drafter = parser.add_mutually_exclusive_group()
    drafter.add_argument("--ngram", type=int, default=0)
    drafter.add_argument("--draft", type=Path)
    args = parser.parse_args()
    speculation = {"max_draft_tokens": args.speculate} if args.speculate else {}
    if args.ngram:
        speculation["ngram_size"] = args.ngram

    start = time.perf_counter()
    model = load(args.folder, args.threads, args.spin == "on", args.draft)
    answer({"ready": True, "load_ms": 1000 * (time.perf_counter() - start)})
    for line in sys.stdin:
        match line.split():
            case ["run", new_tokens, *prompt] if prompt:
                answer(generate(model, [int(word) for word in prompt], int(new_tokens), speculation))
            case ["memory"]:
                answer(memory())
            case _:
                answer({"error": f"no such request: {line.strip()}"})


if __name__ == "__main__":
    main()
