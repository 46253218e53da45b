"""Decodes an exported fusion with onnxruntime-genai, as its users do: nothing here knows what is fused.

usage: export_genai.py FOLDER --tokens N --request JSON [--request JSON …] [--trace COLUMN …] [--end TOKEN]
                       [--batch | --ngram N]

`FOLDER` holds a genai_config.json, of either route. `--batch` decodes all requests with one generator. genai speculates
where the configuration names a draft model, and with `--ngram` on what followed the last N tokens before. A generator that
speculates reports no traces: its passes are of many positions.

`exported.py` has the form of requests and answers.
"""

from __future__ import annotations

import json

import numpy as np
import onnxruntime_genai as og

import exported
from exported import Answer, Request


def open_model(args) -> og.Model:
    config = og.Config(str(args.folder))
    if args.end is not None:
        config.overlay(json.dumps({"model": {"eos_token_id": args.end}}))
    return og.Model(config)


def decode(model: og.Model, requests: list[Request], args, ends: set[int], description: dict) -> list[Answer]:
    ids = exported.padded([request.prompt for request in requests], description["pad_token_id"], np.int32)
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, batch_size=len(requests), max_length=ids.shape[1] + args.tokens)
    if args.ngram:
        params.set_speculative_options(ngram_size=args.ngram)
    generator, inputs = og.Generator(model, params), requests[0].inputs()
    for name, values in inputs.items():
        generator.set_model_input(name, values)
    generator.append_tokens(ids if len(requests) > 1 else ids[0])

    speculates = "draft" in description or args.ngram is not None
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
    mode.add_argument("--ngram", type=int)
    args = parser.parse_args()

    model, ends = open_model(args), exported.end_tokens(args.folder, args.end)
    description = json.loads((args.folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    batches = exported.batches(args.request, args.batch)
    exported.report([answer for batch in batches for answer in decode(model, batch, args, ends, description)])


if __name__ == "__main__":
    main()
