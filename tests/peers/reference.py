"""What others make of the same model folder: the answers that our own are compared with.

usage: reference.py genai-greedy FOLDER --tokens N --prompt-ids "1 2 3" [--prompt-ids …]
       reference.py ort-greedy   FOLDER --tokens N --prompt-ids "1 2 3" [--prompt-ids …]
       reference.py ort-logprobs FOLDER --ids "1 2 3" [--ids …]

Prints one line of JSON:
  *-greedy      {"tokens": [[…], …]}: per prompt the generated ids; an end-of-sequence id is the last if there is one
  ort-logprobs  {"log_probs": [[…], …]}: per text the log-probability, in nats, of each id but the first, given those
                before it; one pass over the whole text without a cache, summed in float64

Only token ids go in and out: tokenizers are compared elsewhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def greedy_with_genai(folder: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    return [list(genai_tokens(og, model, prompt, tokens)) for prompt in prompts]


def genai_tokens(og, model, prompt: list[int], tokens: int):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(prompt) + tokens, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(prompt, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
        yield int(generator.get_next_tokens()[0])


class PlainSession:
    """A decoder in plain ONNX Runtime: one sequence, inputs by name, cache handed back and forth."""

    def __init__(self, folder: Path):
        import onnxruntime as ort

        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        ends = config["eos_token_id"]
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.head_size = config["decoder"]["head_size"]
        self.session = ort.InferenceSession(folder / config["decoder"]["filename"], providers=["CPUExecutionProvider"])
        self.inputs = {spec.name: spec for spec in self.session.get_inputs()}
        self.outputs = [spec.name for spec in self.session.get_outputs()]

    def empty_cache(self) -> dict[str, np.ndarray]:
        caches = [spec for name, spec in self.inputs.items() if name.startswith("past_key_values.")]
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        return {spec.name: np.zeros((1, spec.shape[1], 0, self.head_size), dtypes[spec.type]) for spec in caches}

    def forward(self, ids: list[int], cache: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits `[len(ids), vocab]` of the ids that follow what the cache holds, and the grown cache."""
        past = next(iter(cache.values())).shape[2]
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, past + len(ids)), np.int64),
            "position_ids": np.arange(past, past + len(ids), dtype=np.int64)[None],
            **cache,
        }
        values = self.session.run(None, {name: value for name, value in feed.items() if name in self.inputs})
        results = dict(zip(self.outputs, values))
        logits = results.pop("logits")[0]
        return logits, {name.replace("present.", "past_key_values."): value for name, value in results.items()}

    def greedy(self, prompt: list[int], tokens: int) -> list[int]:
        generated: list[int] = []
        ids, cache = prompt, self.empty_cache()
        while len(generated) < tokens and not self.ends.intersection(generated[-1:]):
            logits, cache = self.forward(ids, cache)
            ids = [int(logits[-1].argmax())]
            generated += ids
        return generated

    def log_probs(self, ids: list[int]) -> list[float]:
        logits, _ = self.forward(ids, self.empty_cache())
        rows = logits[:-1].astype(np.float64)
        top = rows.max(-1)
        normalisers = top + np.log(np.exp(rows - top[:, None]).sum(-1))
        return (rows[np.arange(len(rows)), ids[1:]] - normalisers).tolist()


def token_ids(text: str) -> list[int]:
    return [int(word) for word in text.replace(",", " ").split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("genai-greedy", "ort-greedy"):
        greedy = commands.add_parser(name)
        greedy.add_argument("folder", type=Path)
        greedy.add_argument("--tokens", type=int, required=True)
        greedy.add_argument("--prompt-ids", type=token_ids, action="append", required=True)
    log_probs = commands.add_parser("ort-logprobs")
    log_probs.add_argument("folder", type=Path)
    log_probs.add_argument("--ids", type=token_ids, action="append", required=True)
    args = parser.parse_args()

    if args.command == "genai-greedy":
        answer = {"tokens": greedy_with_genai(args.folder, args.prompt_ids, args.tokens)}
    elif args.command == "ort-greedy":
        session = PlainSession(args.folder)
        answer = {"tokens": [session.greedy(prompt, args.tokens) for prompt in args.prompt_ids]}
    else:
        session = PlainSession(args.folder)
        answer = {"log_probs": [session.log_probs(ids) for ids in args.ids]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
