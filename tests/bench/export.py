"""Times one fusion four ways in one run: logitfuse's engine, genai's pipeline, genai's one graph, ONNX Runtime's one graph.

usage: export.py --binary LOGITFUSE --config FILE.toml --genai DIR --onnx DIR [--tokens 64] [--rounds 5] [--threads 2]
                 [--override KEY=VALUE …] [--prompt TEXT]

The folders are exports of that experiment for targets `genai` and `onnx`. Every measurement is a process of its own; the
ways take turns, and the fastest round of each counts, since a machine is slowed down and never sped up. Tokens per second
are those after the first token. Peak memory is the process's resident set, files that are mapped included. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

PEERS = Path(__file__).parent.parent / "peers"


def engine(args) -> dict:
    command = [args.binary, "generate", "--config", args.config, "--threads", str(args.threads), "--format", "json"]
    command += ["--timings", "--ignore-eos", "-n", str(args.tokens), args.prompt]
    for override in args.override:
        command += ["--set", override]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    timings = json.loads(done.stdout)["timings"]
    tokens = json.loads(done.stdout)["tokens"]
    return {"seconds": timings["decode_seconds"], "tokens": tokens}


def genai(folder: str, args) -> dict:
    import numpy as np
    import onnxruntime_genai as og

    config = og.Config(folder)
    options = {"intra_op_num_threads": args.threads}
    config.overlay(json.dumps({"model": {"eos_token_id": 1_000_000 % args.width, "decoder": {"session_options": options}}}))
    model = og.Model(config)
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=len(args.ids) + args.tokens)
    generator = og.Generator(model, params)
    values = {name: np.array([value], np.float32) for name, value in args.parameters.items()}
    for name, value in values.items():
        generator.set_model_input(name, value)
    generator.append_tokens(np.array(args.ids, np.int32))
    tokens = []
    started = None
    while len(tokens) < args.tokens:
        generator.generate_next_token()
        started = started or time.perf_counter()
        tokens.append(int(generator.get_next_tokens()[0]))
    return {"seconds": time.perf_counter() - started, "tokens": tokens}


def onnxruntime(folder: str, args) -> dict:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(str(Path(folder) / "onnx/model.onnx"), options, providers=["CPUExecutionProvider"])
    inputs = {spec.name: spec for spec in session.get_inputs()}
    outputs = [spec.name for spec in session.get_outputs() if spec.name == "logits" or spec.name.startswith("present.")]
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    feeds = {
        name: np.zeros((1, spec.shape[1], 0, spec.shape[3]), kinds[spec.type])
        for name, spec in inputs.items()
        if name.startswith("past_key_values.")
    }
    ids, length, tokens, started = np.array([args.ids], np.int64), 0, [], None
    while True:
        length += ids.shape[1]
        feeds["input_ids"] = ids
        if "attention_mask" in inputs:
            feeds["attention_mask"] = np.ones((1, length), np.int64)
        if "position_ids" in inputs:
            feeds["position_ids"] = np.arange(length - ids.shape[1], length, dtype=np.int64)[None]
        results = dict(zip(outputs, session.run(outputs, feeds)))
        tokens.append(int(results["logits"][0, -1].argmax()))
        started = started or time.perf_counter()
        if len(tokens) == args.tokens:
            return {"seconds": time.perf_counter() - started, "tokens": tokens}
        ids = np.array([[tokens[-1]]], np.int64)
        feeds = {name.replace("present.", "past_key_values."): values for name, values in results.items() if name != "logits"}


WAYS = {
    "logitfuse's engine": lambda args: engine(args),
    "genai, pipeline": lambda args: genai(args.genai, args),
    "genai, one graph": lambda args: genai(str(Path(args.onnx) / "genai"), args),
    "ONNX Runtime, one graph": lambda args: onnxruntime(args.onnx, args),
}


def prompt_ids(args) -> list[int]:
    """The prompt as the engine reads it."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(args.onnx) / "tokenizer.json")).encode(args.prompt).ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("binary", "config", "genai", "onnx"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--override", action="append", default=[])
    parser.add_argument("--prompt", default="Question: What is the food of the tamcub?\nAnswer:")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    card = json.loads((Path(args.onnx) / "fusion.json").read_text(encoding="utf-8"))
    args.parameters = {parameter["input"]: parameter["default"] for parameter in card["parameters"]}
    args.width = card["vocabulary"]
    if args.one:
        args.ids = prompt_ids(args)
        result = WAYS[args.one](args)
        who = resource.RUSAGE_CHILDREN if args.one == "logitfuse's engine" else resource.RUSAGE_SELF
        print(json.dumps(result | {"memory": resource.getrusage(who).ru_maxrss * 1024}))
        return

    best: dict[str, dict] = {}
    for _ in range(args.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", way]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            known = best.setdefault(way, found)
            known["seconds"] = min(known["seconds"], found["seconds"])
            known["memory"] = min(known["memory"], found["memory"])
    first = best["logitfuse's engine"]
    print(f"{card['strategy']}, {args.tokens} tokens, {args.threads} threads, fastest of {args.rounds}\n")
    print("| way | tokens/s | ratio | peak memory | tokens equal |\n|---|---|---|---|---|")
    for way, found in best.items():
        rate = (len(found["tokens"]) - 1) / found["seconds"]
        ratio = first["seconds"] / found["seconds"]
        same = "yes" if found["tokens"] == first["tokens"] else "no"
        print(f"| {way} | {rate:.0f} | {ratio:.2f} | {found['memory'] / 1e6:.0f} MB | {same} |")


if __name__ == "__main__":
    main()
