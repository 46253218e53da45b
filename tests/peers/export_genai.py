"""Decodes an exported fusion with onnxruntime-genai, as its users do: nothing here knows what is fused.

usage: export_genai.py FOLDER --tokens N --request JSON [--request JSON …] [--trace COLUMN …] [--end TOKEN]
                       [--batch | --draft JSON | --ngram N]

`FOLDER` holds a genai_config.json, of either route. `--batch` decodes all requests with one generator. `--draft` and
`--ngram` let genai speculate: with a draft model, whose description is laid over `model.draft` of the configuration, or
with what followed the last N tokens before. A speculating generator reports no traces: its passes are of many positions.

`exported.py` has the form of requests and answers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

import exported
from exported import Answer, Request


def open_model(args) -> og.Model:
    config = og.Config(str(args.folder))
    changes = {"draft": args.draft, "eos_token_id": args.end}
    config.overlay(json.dumps({"model": {key: value for key, value in changes.items() if value is not None}}))
    return og.Model(config)


def decode(model: og.Model, requests: list[Request], args, ends: set[int], padding: int) -> list[Answer]:
    ids = exported.padded([request.prompt for request in requests], padding, np.int32)
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, batch_size=len(requests), max_length=ids.shape[1] + args.tokens)
    if args.ngram:
        params.set_speculative_options(ngram_size=args.ngram)
    generator, inputs = og.Generator(model, params), requests[0].inputs()
    for name, values in inputs.items():
        generator.set_model_input(name, values)
    generator.append_tokens(ids if len(requests) > 1 else ids[0])

    speculates = bool(args.draft or args.ngram)
    answers = [Answer.with_columns([] if speculates else args.trace) for _ in requests]
    last = [len(request.prompt) - 1 for request in requests]
    while not generator.is_done():
        generator.generate_next_token()
        trace = {column: np.array(generator.get_output(f"trace.{column}")) for column in answers[0].trace}
        for row, (answer, token) in enumerate(zip(answers, generator.get_next_tokens())):
            if not answer.ended(ends):
                answer.push(token, {column: values[row, last[row], 0] for column, values in trace.items()})
        last = [0] * len(requests)
    for answer in answers:
        answer.target_passes = speculative_passes(generator) if speculates else len(answer.tokens) - 1
    return answers


def speculative_passes(generator: og.Generator) -> int:
    """Steps without a draft are counted apart from the rest."""
    statistics = generator.get_speculative_stats()
    return statistics["target_forward_passes"] + statistics["standard_fallback_steps"]


def main() -> None:
    parser = exported.parser(__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--batch", action="store_true")
    mode.add_argument("--draft", type=json.loads)
    mode.add_argument("--ngram", type=int)
    args = parser.parse_args()

    model, ends = open_model(args), exported.end_tokens(args.folder, args.end)
    padding = json.loads((args.folder / "genai_config.json").read_text(encoding="utf-8"))["model"]["pad_token_id"]
    batches = exported.batches(args.request, args.batch)
    exported.report([answer for batch in batches for answer in decode(model, batch, args, ends, padding)])


if __name__ == "__main__":
    main()
