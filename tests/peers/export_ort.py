"""Decodes the one graph of an exported fusion with plain ONNX Runtime: inputs by name, caches handed back and forth.

usage: export_ort.py FOLDER --tokens N --request JSON [--request JSON …] [--trace COLUMN …] [--end TOKEN]
                     [--batch]

`FOLDER` holds onnx/model.onnx. `--batch` decodes all requests in one batch.

`exported.py` has the form of requests and answers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

import exported
from exported import Answer, Request

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class Graph:
    def __init__(self, folder: Path):
        self.session = ort.InferenceSession(folder / "onnx/model.onnx", providers=["CPUExecutionProvider"])
        self.inputs = {spec.name: spec for spec in self.session.get_inputs()}
        self.outputs = [spec.name for spec in self.session.get_outputs()]
        # A default is an initializer that a run may override; ONNX Runtime lists it apart from the inputs.
        self.parameters = {spec.name for spec in self.session.get_overridable_initializers()} | set(self.inputs)

    def empty_caches(self, batch: int) -> dict[str, np.ndarray]:
        pasts = [spec for name, spec in self.inputs.items() if name.startswith("past_key_values.")]
        return {spec.name: np.zeros((batch, spec.shape[1], 0, spec.shape[3]), DTYPES[spec.type]) for spec in pasts}

    def run(self, feed: dict[str, np.ndarray], parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if unknown := set(parameters) - self.parameters:
            raise SystemExit(f"the graph has no {', '.join(sorted(unknown))}")
        typed = {name: feed[name].astype(DTYPES[spec.type]) for name, spec in self.inputs.items() if name in feed}
        return dict(zip(self.outputs, self.session.run(None, typed | parameters)))


def decode(graph: Graph, requests: list[Request], args, ends: set[int]) -> list[Answer]:
    lengths = np.array([len(request.prompt) for request in requests])
    ids = exported.padded([request.prompt for request in requests], 0, np.int64)
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    positions = np.arange(ids.shape[1]) * mask
    caches, parameters = graph.empty_caches(len(requests)), requests[0].inputs()
    answers, last = [Answer.with_columns(args.trace) for _ in requests], lengths - 1
    rows = np.arange(len(requests))
    for step in range(args.tokens):
        results = graph.run({"input_ids": ids, "attention_mask": mask, "position_ids": positions, **caches}, parameters)
        caches = {name: results[name.replace("past_key_values", "present")] for name in caches}
        tokens = results["logits"][rows, last].argmax(-1)
        trace = {column: results[f"trace.{column}"][rows, last, 0] for column in args.trace}
        for row, answer in enumerate(answers):
            if not answer.ended(ends):
                answer.push(tokens[row], {column: values[row] for column, values in trace.items()})
                answer.target_passes = step
        if all(answer.ended(ends) for answer in answers):
            break
        ids, last = tokens[:, None], np.zeros_like(lengths)
        # Padding stays masked for good; where a cache is concatenated, new keys come after it.
        mask = np.concatenate([mask, np.ones_like(ids)], axis=1)
        positions = (lengths + step)[:, None]
    return answers


def main() -> None:
    parser = exported.parser(__doc__)
    parser.add_argument("--batch", action="store_true")
    args = parser.parse_args()

    graph, ends = Graph(args.folder), exported.end_tokens(args.folder, args.end)
    batches = exported.batches(args.request, args.batch)
    exported.report([answer for batch in batches for answer in decode(graph, batch, args, ends)])


if __name__ == "__main__":
    main()
