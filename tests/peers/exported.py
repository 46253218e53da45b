"""What the scripts that decode exported fusions share: how they are asked, and what they answer.

They are asked with one `--request` per text:

    {"prompt": [1, 2, 3], "fusion": {"alpha": 0.5}}

where `fusion` sets the strategy's parameters for that text alone; what it does not name keeps the export's default.
They print one line of JSON:

    {"answers": [{"tokens": […], "trace": {"alpha": […]}, "target_passes": 63}, …]}

`tokens` are chosen greedily; an end-of-sequence id is the last if there is one. `trace` has, for every token, the columns
that were asked for with `--trace`. `target_passes` counts the passes of the exported fusion after the one over the prompt.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Request:
    prompt: list[int]
    fusion: dict[str, float] = field(default_factory=dict)

    def inputs(self) -> dict[str, np.ndarray]:
        """The parameters as the graph's inputs. Runtimes read the arrays where they are: keep them alive."""
        return {f"fusion.{name}": np.array([value], np.float32) for name, value in self.fusion.items()}


@dataclass
class Answer:
    """What one row of a batch decoded so far."""

    trace: dict[str, list[float]]
    tokens: list[int] = field(default_factory=list)
    target_passes: int = 0

    @classmethod
    def with_columns(cls, columns: list[str]) -> Answer:
        return cls({column: [] for column in columns})

    def push(self, token: int, trace: dict[str, float]) -> None:
        self.tokens.append(int(token))
        for column, value in trace.items():
            self.trace[column].append(float(value))

    def ended(self, ends: set[int]) -> bool:
        return not ends.isdisjoint(self.tokens[-1:])


def parser(documentation: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--trace", action="append", default=[], metavar="COLUMN")
    parser.add_argument("--end", type=int, metavar="TOKEN", help="ends texts instead of what the folder says")
    parser.add_argument("--request", type=lambda text: Request(**json.loads(text)), action="append", required=True)
    return parser


def batches(requests: list[Request], together: bool) -> list[list[Request]]:
    """A parameter is one number for a whole batch."""
    if not together:
        return [[request] for request in requests]
    if any(request.fusion != requests[0].fusion for request in requests):
        raise SystemExit("texts of one batch share their parameters: give every --request the same `fusion`")
    return [requests]


def end_tokens(folder: Path, given: int | None) -> set[int]:
    """From whichever of the configurations the folder has, unless one is given."""
    if given is not None:
        return {given}
    for name in ("genai_config.json", "generation_config.json", "config.json"):
        if (folder / name).exists():
            config = json.loads((folder / name).read_text(encoding="utf-8"))
            ends = config.get("model", config)["eos_token_id"]
            return set(ends if isinstance(ends, list) else [ends])
    raise SystemExit(f"{folder}: no configuration names the end-of-sequence token")


def padded(prompts: list[list[int]], padding: int, dtype: type) -> np.ndarray:
    """One row per prompt, the shorter ones filled up on the right."""
    ids = np.full((len(prompts), max(map(len, prompts))), padding, dtype)
    for row, prompt in zip(ids, prompts):
        row[: len(prompt)] = prompt
    return ids


def report(answers: list[Answer]) -> None:
    print(json.dumps({"answers": [asdict(answer) for answer in answers]}))
