"""Runs tiny decoders in ONNX Runtime as simply as possible, to show that they are what they are meant to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from decoder_graph import HEAD, KV_HEADS, LAYERS, VOCAB, Form

TOKENS = [1, 17, 42, 8, 96, 33, 5, 64, 71, 29, 50, 12]
PIECES = [5, 1, 3, 1, 1, 1]
"""How the tokens are fed, the second time."""


def check(models: dict[Path, Form]) -> None:
    """Every model by itself, then those that are the same mathematics against each other."""
    seen: dict[Form, tuple[Path, np.ndarray]] = {}
    for path, form in models.items():
        model = Model(path, form)
        at_once = model.rows([len(TOKENS)])
        in_pieces = model.rows(PIECES)
        # A graph that yields the last row of a call has fewer rows to show when everything goes into one call.
        expect_equal(f"{path}: in pieces and at once", in_pieces[-len(at_once):], at_once, form)
        mathematics = Form(
            learned_positions=form.learned_positions, window=form.window, weight_bits=form.weight_bits, seed=form.seed
        )
        other, rows = seen.setdefault(mathematics, (path, at_once[:, :VOCAB]))
        expect_equal(f"{path} and {other}", at_once[:, :VOCAB], rows[-len(at_once):], form)


def expect_equal(what: str, a: np.ndarray, b: np.ndarray, form: Form) -> None:
    tolerance = 0.05 if form.dtype == np.float16 else 1e-4
    difference = np.abs(a - b).max()
    if not difference <= tolerance:
        raise SystemExit(f"{what}: logits differ by {difference}")


class Model:
    """A decoder and one sequence of it."""

    def __init__(self, path: Path, form: Form):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {spec.name for spec in self.session.get_inputs()}
        self.form = form

    def rows(self, pieces: list[int]) -> np.ndarray:
        """The logits of all tokens, fed in pieces of these lengths."""
        cache, fed, rows = self.empty_cache(), 0, []
        for piece in pieces:
            # Without a cache everything is computed anew, and what was known is dropped.
            start = 0 if self.form.cache == "none" else fed
            logits, cache = self.forward(TOKENS[start:fed + piece], start, cache)
            rows.append(logits[-piece:])
            fed += piece
        return np.concatenate(rows).astype(np.float32)

    def empty_cache(self) -> dict[str, np.ndarray]:
        shape = (2, 1, KV_HEADS, 0, HEAD) if self.form.cache == "joint" else (1, KV_HEADS, 0, HEAD)
        return {name: np.zeros(shape, self.form.dtype) for layer in range(LAYERS) for name in self.form.past(layer)}

    def forward(self, ids: list[int], past: int, cache: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        form, total = self.form, past + len(ids)
        feed = {
            "input_ids": np.array([ids], form.integers),
            "attention_mask": np.ones((1, total), form.integers),
            "position_ids": np.arange(past, total, dtype=form.integers)[None],
            "use_cache_branch": np.array([past > 0]),
            "num_logits_to_keep": np.array(len(ids), np.int64),
            **cache,
        }
        logits, *presents = self.session.run(None, {name: value for name, value in feed.items() if name in self.inputs})
        return logits[0], dict(zip(cache, presents))
