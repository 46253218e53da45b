"""Writes the small base and the expert as ONNX folders in the Hugging Face layout, and compares them with PyTorch.

The graph is a decoder with `GroupQueryAttention` and eight-bit matrices, which are the checkpoint's own numbers. The
tokenizer is SmolLM2's and is not copied: a link leads to the folder that `cargo xtask models smollm2` makes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from helper import QUANTISED_BLOCK, Helper, load, quantise  # noqa: I001  (makes the family's modules importable)
from cards import Item
from examples import Example
from model import CONTEXT, EPSILON, THETA, rotary_tables
from smollm2 import END, TURN, tokenizer

MICROSOFT = "com.microsoft"
LINKED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Graph:
    """Nodes and constants under way. A value is the name of its tensor."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name="/" + outputs[0], domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def matrix(self, name: str, weight: torch.Tensor) -> list[str]:
        values, scales = quantise(weight)
        return [self.constant(f"{name}.bytes", values.numpy()), self.constant(f"{name}.scales", scales.numpy())]

    def times(self, name: str, x: str, matrix: list[str], shape: torch.Size, out: str | None = None) -> str:
        return self.op(
            "MatMulNBits", [x, *matrix], [out or f"{name}/out"], MICROSOFT, N=shape[0], K=shape[1], bits=8,
            block_size=QUANTISED_BLOCK, accuracy_level=ACCURACY,
        )

    def linear(self, name: str, x: str, weight: torch.Tensor) -> str:
        return self.times(name, x, self.matrix(name, weight), weight.shape)

    def norm(self, name: str, x: str, weight: torch.Tensor) -> str:
        inputs = [x, self.constant(name, weight.numpy())]
        return self.op("SimplifiedLayerNormalization", inputs, [f"{name}/out"], axis=-1, epsilon=EPSILON, stash_type=1)


ACCURACY = 4
"""Activations are eight-bit too where a matrix is read, as they are in SmolLM2's own folder."""


def tensor(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def sequence_lengths(graph: Graph) -> list[str]:
    """GroupQueryAttention wants each row's last index and the longest row's length; the mask holds both."""
    one, axis = graph.constant("one", np.array([1], np.int64)), graph.constant("axis", np.array(1, np.int64))
    graph.op("ReduceSum", ["attention_mask", one], ["mask/sum"], keepdims=1)
    graph.op("Sub", ["mask/sum", one], ["mask/last"])
    graph.op("Shape", ["attention_mask"], ["mask/shape"])
    graph.op("Gather", ["mask/shape", axis], ["mask/length"], axis=0)
    return [
        graph.op("Cast", ["mask/last"], ["seqlens_k"], to=TensorProto.INT32),
        graph.op("Cast", ["mask/length"], ["total_sequence_length"], to=TensorProto.INT32),
    ]


def decoder_graph(model: Helper) -> onnx.ModelProto:
    graph, shape = Graph(), model.shape
    inputs = [
        tensor("input_ids", TensorProto.INT64, "batch_size", "sequence_length"),
        tensor("attention_mask", TensorProto.INT64, "batch_size", "total_sequence_length"),
    ]
    outputs = [tensor("logits", TensorProto.FLOAT, "batch_size", "sequence_length", model.vocabulary)]
    lengths = sequence_lengths(graph)
    cos, sin = rotary_tables(shape.head_size)
    tables = [graph.constant("cos_cache", cos.numpy()), graph.constant("sin_cache", sin.numpy())]
    size = model.embed.weight.shape
    embed = graph.matrix("embed", model.embed.weight.data)
    graph.op("Reshape", [embed[0], graph.constant("embed.shape", np.array(size, np.int64))], ["embed.rows"])
    looked_up = graph.op("GatherBlockQuantized", ["embed.rows", "input_ids", embed[1]], ["embedded"], MICROSOFT,
                         bits=8, block_size=QUANTISED_BLOCK, gather_axis=0, quantize_axis=1)
    hidden = graph.linear("widen", looked_up, model.widen.weight.data)
    for n, block in enumerate(model.blocks):
        name = f"layers.{n}"
        normed = graph.norm(f"{name}.input_norm", hidden, block.input_norm.weight.data)
        packed = graph.linear(f"{name}.qkv", normed, block.qkv.weight.data)
        pasts, presents = ([f"{kind}.{n}.{part}" for part in ("key", "value")] for kind in ("past_key_values", "present"))
        cache = ("batch_size", shape.heads)
        inputs += [tensor(p, TensorProto.FLOAT, *cache, "past_sequence_length", shape.head_size) for p in pasts]
        outputs += [tensor(p, TensorProto.FLOAT, *cache, "total_sequence_length", shape.head_size) for p in presents]
        attended = graph.op(
            "GroupQueryAttention", [packed, "", "", *pasts, *lengths, *tables], [f"{name}.attended", *presents],
            MICROSOFT, num_heads=shape.heads, kv_num_heads=shape.heads, do_rotary=1, rotary_interleaved=0,
            scale=shape.head_size**-0.5,
        )
        hidden = graph.op("Add", [hidden, graph.linear(f"{name}.o", attended, block.o.weight.data)], [f"{name}.middle"])
        normed = graph.norm(f"{name}.post_norm", hidden, block.post_norm.weight.data)
        gate_weight, up_weight = block.gate_up.weight.data.chunk(2)
        gate, up = graph.linear(f"{name}.gate", normed, gate_weight), graph.linear(f"{name}.up", normed, up_weight)
        silu = graph.op("Mul", [gate, graph.op("Sigmoid", [gate], [f"{name}.sigmoid"])], [f"{name}.silu"])
        down = graph.linear(f"{name}.down", graph.op("Mul", [silu, up], [f"{name}.gated"]), block.down.weight.data)
        hidden = graph.op("Add", [hidden, down], [f"{name}.hidden"])
    narrow = graph.linear("narrow", graph.norm("norm", hidden, model.norm.weight.data), model.narrow.weight.data)
    graph.times("head", narrow, embed, size, "logits")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    body = helper.make_graph(graph.nodes, "decoder", inputs, outputs, graph.constants)
    return helper.make_model(body, producer_name="logitfuse smollm2-helper", opset_imports=opsets, ir_version=10)


def write(model: Helper, large: Path, out: Path) -> None:
    """A folder; `large` is where its links to the tokenizer lead."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(decoder_graph(model).SerializeToString())
    shape, ids = model.shape, {"bos_token_id": TURN, "eos_token_id": END, "pad_token_id": END}
    config = {
        "model_type": "llama", **ids, "hidden_size": shape.width, "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.heads,
        "head_dim": shape.head_size, "hidden_act": "silu", "rms_norm_eps": EPSILON, "rope_theta": THETA,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": True, "vocab_size": model.vocabulary,
        "torch_dtype": "float32", "use_cache": True,
    }
    for name, content in (("config", config), ("generation_config", ids)):
        (out / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    for name in LINKED:
        link = out / name
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(large.resolve() / name, out.resolve()))


def differ(model: Helper, folder: Path, examples: list[Example]) -> tuple[float, int]:
    """Mean KL in nats from PyTorch's answers' rows to ONNX Runtime's, and how many rows have another favourite."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    pasts = [i for i in session.get_inputs() if i.name.startswith("past")]
    empty = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in pasts}
    divergence, rows, others = 0.0, 0, 0
    for e in examples:
        feed = {"input_ids": np.array([e.tokens]), "attention_mask": np.ones((1, len(e.tokens)), np.int64), **empty}
        found = torch.from_numpy(session.run(["logits"], feed)[0])[0, len(e.prompt) - 1 :].log_softmax(-1)
        with torch.no_grad():
            expected = model(torch.tensor([e.tokens]))[0, len(e.prompt) - 1 :].log_softmax(-1)
        divergence += (expected.exp() * (expected - found)).sum().item()
        rows += len(found)
        others += int((expected.argmax(-1) != found.argmax(-1)).sum())
    return divergence / rows, others


def export(checkpoint: Path, large: Path, out: Path, items: list[Item]) -> None:
    model = load(checkpoint)
    write(model, large, out)
    tok = tokenizer(large)
    divergence, others = differ(model, out, [Example.of(item, tok) for item in items])
    size = (out / "model.onnx").stat().st_size / 1e6
    print(f"{out.name}: {size:.2f} MB; {divergence:.1e} nats to PyTorch, {others} other favourites", flush=True)
    if divergence > 0.01:
        raise SystemExit(f"{out}: the graph does not compute what the checkpoint does")
