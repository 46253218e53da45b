"""Models that load and then misbehave: one that loops for ever, one whose logits are no numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCAB = 97
NINE = 68
"""The token that says "9" in `tiny_tokenizer`."""
FIRST, LAST = 7, 58
"""The letters, which follow each other."""


def table() -> np.ndarray:
    """Logits of the next token by the last one: every letter is followed by the next."""
    logits = np.full((VOCAB, VOCAB), -4.0, np.float32)
    for token in range(VOCAB):
        logits[token, FIRST + (token + 1 - FIRST) % (LAST - FIRST)] = 4.0
    return logits


def endless(cached: bool) -> onnx.ModelProto:
    """Loops 2^62 times once it reads a nine."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes_on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [info("turn", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("before", TensorProto.FLOAT, None)],
        [info("goes_on", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Equal", ["input_ids", "nine"], ["is_nine"]),
        helper.make_node("Cast", ["is_nine"], ["nines"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["nines"], ["any_nine"], keepdims=0),
        helper.make_node("Mul", ["any_nine", "ages"], ["more"]),
        helper.make_node("Add", ["more", "one"], ["turns"]),
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Loop", ["turns", "true", "rows"], ["logits"], body=body),
    ]
    constants = {"table": table(), "nine": np.int64(NINE), "ages": np.int64(2**62), "one": np.int64(1), "true": np.bool_(True)}
    return model(nodes, constants, cached)


def not_a_number() -> onnx.ModelProto:
    """Says NaN of one token behind a nine."""
    logits = table()
    logits[NINE, 41] = np.nan
    return model([helper.make_node("Gather", ["table", "input_ids"], ["logits"])], {"table": logits}, cached=False)


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], cached: bool) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    inputs = [info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
    outputs = [info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", VOCAB])]
    if cached:
        # The tokens themselves, of which nobody asks.
        constants["outer"] = np.array([1, 3], np.int64)
        nodes = nodes + [
            helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["floats", "outer"], ["new"]),
            helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
        ]
        inputs.append(info("past_key_values.0.key", TensorProto.FLOAT, ["batch_size", 1, "past_sequence_length", 1]))
        outputs.append(info("present.0.key", TensorProto.FLOAT, ["batch_size", 1, "total_sequence_length", 1]))
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "odd", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


MODELS = {
    "endless": lambda: endless(cached=False),
    "endless_cached": lambda: endless(cached=True),
    "not_a_number": not_a_number,
}
