"""Small language models as ONNX graphs, in the many forms in which exporters write the same mathematics.

A `Form` says how a decoder is written down. Its weights depend on their names and the form's seed alone, so two forms
of the same mathematics are the same model, and their logits must agree.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

MICROSOFT = "com.microsoft"

LAYERS, HIDDEN, FEED_FORWARD = 2, 32, 64
HEADS, KV_HEADS, HEAD = 4, 2, 16
VOCAB, CONTEXT = 97, 128
ROPE_THETA, EPSILON = 10_000.0, 1e-5
BLOCK = 32
"""Weights that share a scale, where they are quantised."""
INLINE_LIMIT = 256
"""Bytes from which on a constant moves to the external data file, where there is one."""


@dataclass(frozen=True)
class Form:
    """How a decoder is written down. The defaults are a plain float32 export for text generation."""

    attention: Literal["plain", "gqa"] = "plain"
    """Standard operators that concatenate the cache, or `GroupQueryAttention`."""
    dtype: type = np.float32
    """Of weights, logits and cache."""
    integers: type = np.int64
    """Of token ids, mask and positions."""
    mask: bool = True
    position_ids: bool = False
    learned_positions: bool = False
    """A table of positions that is added to the embedding, instead of rotations."""
    window: int | None = None
    """Attend to this many tokens, the current one included."""
    cache: Literal["pairs", "joint", "none"] = "pairs"
    """Key and value apart, both in one tensor `[2, batch, heads, tokens, head]`, or nothing kept."""
    merged: bool = False
    """One file for the first call and the later ones, each in its branch; `use_cache_branch` chooses."""
    rows: Literal["all", "last", "chosen"] = "all"
    """The positions whose logits come out; "chosen" asks the input `num_logits_to_keep`."""
    rows_dim: str | int = "sequence_length"
    """What the shape of the logits says of them."""
    logits_width: int = VOCAB
    weight_bits: Literal[4, 8, None] = None
    head_dim: str | int = HEAD
    """What the shape of the cache says of the head size."""
    token_types: bool = False
    """An input that no text decoder should need."""
    external: str | None = None
    """The file for large constants, beside the graph's."""
    seed: int = 0

    def past(self, layer: int) -> list[str]:
        kinds = {"pairs": ["past_key_values.{}.key", "past_key_values.{}.value"], "joint": ["past_{}"], "none": []}
        return [name.format(layer) for name in kinds[self.cache]]

    def present(self, layer: int) -> list[str]:
        kinds = {"pairs": ["present.{}.key", "present.{}.value"], "joint": ["present_{}"], "none": []}
        return [name.format(layer) for name in kinds[self.cache]]


class Graph:
    """Nodes and constants under way. A value is the name of its tensor."""

    def __init__(self, form: Form, constants: dict[str, TensorProto], prefix: str = ""):
        self.form = form
        self.nodes: list[onnx.NodeProto] = []
        self.constants = constants
        self.prefix = prefix

    def op(self, op: str, *inputs: str, named: list[str] | None = None, domain: str = "", **attributes) -> str:
        """Adds a node and gives back its first output; `named` are the outputs that are wanted by name."""
        outputs = named or [f"{self.prefix}{op}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"/{outputs[0]}", domain=domain, **attributes))
        return outputs[0]

    def cast(self, value: str, dtype: type) -> str:
        return self.op("Cast", value, to=onnx_type(dtype))

    def constant(self, name: str, values, dtype: type | None = None) -> str:
        values = np.asarray(values, dtype or self.form.dtype)
        kind = onnx_type(values.dtype)
        self.constants[name] = TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=values.tobytes())
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), values, np.int64)

    def scalar(self, value: float, dtype: type | None = None) -> str:
        return self.constant(f"{np.dtype(dtype or self.form.dtype).name}_{value}", value, dtype)

    def weight(self, name: str, *shape: int, scale: float) -> np.ndarray:
        return np.random.default_rng([self.form.seed, zlib.crc32(name.encode())]).normal(0, scale, shape)

    def projection(self, name: str, outputs: int, inputs: int, gain: float = 1.0) -> np.ndarray:
        return self.weight(name, outputs, inputs, scale=gain * inputs**-0.5)

    def linear(self, name: str, x: str, matrix: np.ndarray, named: list[str] | None = None) -> str:
        """`x @ matrix.T`, in the form's precision."""
        bits = self.form.weight_bits
        if bits is None:
            return self.op("MatMul", x, self.constant(name, matrix.T), named=named)
        packed, scales = quantise(matrix, bits)
        inputs = [x, self.constant(f"{name}.q{bits}", packed, np.uint8), self.constant(f"{name}.scales", scales)]
        n, k = matrix.shape
        return self.op("MatMulNBits", *inputs, named=named, domain=MICROSOFT, K=k, N=n, bits=bits, block_size=BLOCK)


def onnx_type(dtype: type | np.dtype) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def quantise(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks along the second axis, symmetric around the middle of the range, low nibble first."""
    middle = 1 << (bits - 1)
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    scales = np.abs(blocks).max(-1, keepdims=True) / (middle - 1)
    grid = np.rint(blocks / scales + middle).astype(np.uint8)
    if bits == 4:
        grid = grid[..., 0::2] | (grid[..., 1::2] << 4)
    return grid, scales.reshape(-1)


def rotary_tables(graph: Graph) -> list[str]:
    """Cosines and sines, `[context, head / 2]`."""
    frequencies = ROPE_THETA ** (-np.arange(0, HEAD, 2) / HEAD)
    angles = np.outer(np.arange(CONTEXT), frequencies)
    return [graph.constant("cos_cache", np.cos(angles)), graph.constant("sin_cache", np.sin(angles))]


def qkv_weights(graph: Graph, layer: int) -> list[np.ndarray]:
    sizes = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}
    return [graph.projection(f"layers.{layer}.{part}", size, HIDDEN, gain=1.5) for part, size in sizes.items()]


class PlainAttention:
    """Standard operators only: the past is concatenated, the causal mask computed from shapes and the caller's mask."""

    def __init__(self, graph: Graph, cached: bool):
        self.graph, self.form, self.cached = graph, graph.form, cached
        op, scalar = graph.op, graph.scalar
        tokens = op("Squeeze", op("Shape", "input_ids", start=1, end=2))
        past = op("Squeeze", op("Shape", self.form.past(0)[0], start=-2, end=-1)) if cached else scalar(0, np.int64)
        total = op("Add", past, tokens)
        queries = op("Unsqueeze", op("Range", past, total, scalar(1, np.int64)), graph.ints(1))
        keys = op("Unsqueeze", op("Range", scalar(0, np.int64), total, scalar(1, np.int64)), graph.ints(0))
        self.bias = self.mask_bias(op("Sub", queries, keys))
        # `[1, tokens]`, or `[batch, tokens]` from the caller.
        self.positions = "position_ids" if self.form.position_ids else op("Transpose", queries, perm=[1, 0])
        if not self.form.learned_positions:
            tables = rotary_tables(graph)
            self.rotary = [op("Unsqueeze", op("Gather", table, self.positions), graph.ints(1)) for table in tables]

    def mask_bias(self, distance: str) -> str:
        """What is added to the scores, `[1 or batch, 1, queries, keys]`; `distance` is how far a key lies back."""
        op, scalar = self.graph.op, self.graph.scalar
        visible = op("GreaterOrEqual", distance, scalar(0, np.int64))
        if self.form.window:
            visible = op("And", visible, op("Less", distance, scalar(self.form.window, np.int64)))
        visible = op("Unsqueeze", visible, self.graph.ints(0, 1))
        if self.form.mask:
            allowed = op("Unsqueeze", self.graph.cast("attention_mask", np.bool_), self.graph.ints(1, 2))
            visible = op("And", visible, allowed)
        return op("Where", visible, scalar(0.0), scalar(-1e4))

    def attend(self, layer: int, x: str, presents: list[str]) -> str:
        op, graph = self.graph.op, self.graph
        names = [f"layers.{layer}.{part}" for part in "qkv"]
        query, key, value = (
            self.heads(graph.linear(name, x, matrix)) for name, matrix in zip(names, qkv_weights(graph, layer))
        )
        if not self.form.learned_positions:
            query, key = self.rotate(query), self.rotate(key)
        key, value = self.remember(layer, key, value, presents)
        scores = op("MatMul", query, op("Transpose", self.grouped(key), perm=[0, 1, 3, 2]))
        scores = op("Add", op("Mul", scores, graph.scalar(HEAD**-0.5)), self.bias)
        attended = op("MatMul", op("Softmax", scores, axis=-1), self.grouped(value))
        return op("Reshape", op("Transpose", attended, perm=[0, 2, 1, 3]), graph.ints(0, -1, HEADS * HEAD))

    def heads(self, x: str) -> str:
        split = self.graph.op("Reshape", x, self.graph.ints(0, 0, -1, HEAD))
        return self.graph.op("Transpose", split, perm=[0, 2, 1, 3])

    def rotate(self, x: str) -> str:
        op, (cos, sin) = self.graph.op, self.rotary
        count = len(self.graph.nodes)
        first, second = (f"{self.graph.prefix}{half}_half_{count}" for half in ("first", "second"))
        op("Split", x, named=[first, second], axis=-1, num_outputs=2)
        real = op("Sub", op("Mul", first, cos), op("Mul", second, sin))
        imaginary = op("Add", op("Mul", second, cos), op("Mul", first, sin))
        return op("Concat", real, imaginary, axis=-1)

    def remember(self, layer: int, key: str, value: str, presents: list[str]) -> tuple[str, str]:
        """Key and value with what came before them, also given out as the new cache."""
        op, pasts = self.graph.op, self.form.past(layer) if self.cached else []
        if self.form.cache == "none":
            return key, value
        if self.form.cache == "joint":
            new = op("Concat", *(op("Unsqueeze", part, self.graph.ints(0)) for part in (key, value)), axis=0)
            joint = op("Concat", *pasts, new, named=presents, axis=3)
            key, value = (op("Gather", joint, self.graph.scalar(half, np.int64), axis=0) for half in (0, 1))
            return key, value
        if not pasts:
            return tuple(op("Identity", new, named=[name]) for new, name in zip((key, value), presents))
        news = zip(pasts, (key, value), presents)
        return tuple(op("Concat", past, new, named=[name], axis=2) for past, new, name in news)

    def grouped(self, x: str) -> str:
        """Every key/value head repeated for the query heads that share it."""
        op, ints = self.graph.op, self.graph.ints
        repeated = op("Tile", op("Unsqueeze", x, ints(2)), ints(1, 1, HEADS // KV_HEADS, 1, 1))
        return op("Reshape", repeated, ints(0, HEADS, -1, HEAD))


class GroupQueryAttention:
    """The contrib operator that onnxruntime-genai's builder uses: packed input, rotation and mask inside."""

    def __init__(self, graph: Graph, cached: bool):
        assert cached, "the operator has a cache always"
        self.graph, self.form = graph, graph.form
        op, one = graph.op, graph.ints(1)
        # Each row's last index and the longest row's length; the mask holds both.
        self.lengths = [
            graph.cast(op("Sub", op("ReduceSum", "attention_mask", one), one), np.int32),
            graph.cast(op("Squeeze", op("Shape", "attention_mask", start=1, end=2)), np.int32),
        ]
        self.rotary = rotary_tables(graph)

    def attend(self, layer: int, x: str, presents: list[str]) -> str:
        op, graph = self.graph.op, self.graph
        weights = qkv_weights(graph, layer)
        if self.form.position_ids:
            # The caller's positions enter through a rotation of its own.
            query, key, value = (
                graph.linear(f"layers.{layer}.{part}", x, matrix) for part, matrix in zip("qkv", weights)
            )
            query, key = (
                op("RotaryEmbedding", part, "position_ids", *self.rotary, domain=MICROSOFT) for part in (query, key)
            )
            inputs, rotary = [query, key, value, *self.form.past(layer), *self.lengths], {}
        else:
            packed = graph.linear(f"layers.{layer}.qkv", x, np.concatenate(weights))
            inputs = [packed, "", "", *self.form.past(layer), *self.lengths, *self.rotary]
            rotary = {"do_rotary": 1}
        window = {"local_window_size": self.form.window} if self.form.window else {}
        return op(
            "GroupQueryAttention", *inputs, named=[f"layers.{layer}/attended", *presents], domain=MICROSOFT,
            num_heads=HEADS, kv_num_heads=KV_HEADS, **rotary, **window,
        )


class Decoder:
    """One pass over the tokens: embedding, transformer blocks, head."""

    def __init__(self, graph: Graph, cached: bool):
        self.graph, self.form = graph, graph.form
        attention = {"plain": PlainAttention, "gqa": GroupQueryAttention}[self.form.attention]
        self.attention = attention(graph, cached)

    def write(self, logits: str, presents: list[list[str]]) -> None:
        """Adds the nodes, with these names for what comes out; `presents` holds a list per layer."""
        graph = self.graph
        hidden = self.embedding()
        for layer in range(LAYERS):
            attended = self.attention.attend(layer, self.norm(f"layers.{layer}.input_norm", hidden), presents[layer])
            output = graph.projection(f"layers.{layer}.o", HIDDEN, HEADS * HEAD)
            hidden = graph.op("Add", hidden, graph.linear(f"layers.{layer}.o", attended, output))
            hidden = graph.op("Add", hidden, self.feed_forward(layer, self.norm(f"layers.{layer}.post_norm", hidden)))
        head = graph.projection("head", self.form.logits_width, HIDDEN, gain=2.5)
        graph.linear("head", self.kept(self.norm("final_norm", hidden)), head, named=[logits])

    def embedding(self) -> str:
        graph, op = self.graph, self.graph.op
        table = graph.constant("embedding", graph.weight("embedding", self.form.logits_width, HIDDEN, scale=1.0))
        hidden = op("Gather", table, "input_ids")
        if self.form.learned_positions:
            positions = graph.constant("positions", graph.weight("positions", CONTEXT, HIDDEN, scale=1.0))
            hidden = op("Add", hidden, op("Gather", positions, self.attention.positions))
        if self.form.token_types:
            types = graph.constant("token_types", graph.weight("token_types", 2, HIDDEN, scale=1.0))
            hidden = op("Add", hidden, op("Gather", types, "token_type_ids"))
        return hidden

    def norm(self, name: str, x: str) -> str:
        """Root mean square; contrib graphs have one operator for it, plain ones spell it out."""
        graph, op = self.graph, self.graph.op
        weight = graph.constant(name, 1 + graph.weight(name, HIDDEN, scale=0.1))
        if self.form.attention == "gqa":
            return op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=EPSILON, stash_type=1)
        mean = op("ReduceMean", op("Mul", x, x), graph.ints(-1))
        root = op("Sqrt", op("Add", mean, graph.scalar(EPSILON)))
        return op("Mul", op("Div", x, root), weight)

    def feed_forward(self, layer: int, x: str) -> str:
        graph, op, name = self.graph, self.graph.op, f"layers.{layer}"
        gate, up = (
            graph.linear(f"{name}.{part}", x, graph.projection(f"{name}.{part}", FEED_FORWARD, HIDDEN))
            for part in ("gate", "up")
        )
        gated = op("Mul", op("Mul", gate, op("Sigmoid", gate)), up)
        return graph.linear(f"{name}.down", gated, graph.projection(f"{name}.down", HIDDEN, FEED_FORWARD))

    def kept(self, hidden: str) -> str:
        """The positions whose logits are wanted."""
        op, ints = self.graph.op, self.graph.ints
        if self.form.rows == "all":
            return hidden
        if self.form.rows == "last":
            start = ints(-1)
        else:
            # Zero keeps all of them, as everywhere where this input exists.
            start = op("Unsqueeze", op("Neg", "num_logits_to_keep"), ints(0))
        return op("Slice", hidden, start, ints(np.iinfo(np.int64).max), ints(1))


def inputs_of(form: Form) -> list[onnx.ValueInfoProto]:
    integers = onnx_type(form.integers)

    def tokens(name: str, length: str = "sequence_length") -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, integers, ["batch_size", length])

    inputs = [tokens("input_ids")]
    if form.mask:
        inputs.append(tokens("attention_mask", "total_sequence_length"))
    if form.position_ids:
        inputs.append(tokens("position_ids"))
    if form.token_types:
        inputs.append(tokens("token_type_ids"))
    inputs += [cache(form, name, "past_sequence_length") for layer in range(LAYERS) for name in form.past(layer)]
    if form.merged:
        inputs.append(helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]))
    if form.rows == "chosen":
        inputs.append(helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, []))
    return inputs


def outputs_of(form: Form) -> list[onnx.ValueInfoProto]:
    shape = ["batch_size", form.rows_dim, form.logits_width]
    logits = helper.make_tensor_value_info("logits", onnx_type(form.dtype), shape)
    names = [name for layer in range(LAYERS) for name in form.present(layer)]
    return [logits, *(cache(form, name, "total_sequence_length") for name in names)]


def cache(form: Form, name: str, length: str) -> onnx.ValueInfoProto:
    halves = [2] if form.cache == "joint" else []
    shape = [*halves, "batch_size", KV_HEADS, length, form.head_dim]
    return helper.make_tensor_value_info(name, onnx_type(form.dtype), shape)


def decoder(form: Form) -> onnx.ModelProto:
    """The whole model, its constants inside."""
    graph = Graph(form, {})
    outputs = outputs_of(form)
    presents = [form.present(layer) for layer in range(LAYERS)]
    if form.merged:
        branches = {f"{kind}_branch": branch(graph, kind, outputs, presents) for kind in ("then", "else")}
        graph.op("If", "use_cache_branch", named=[output.name for output in outputs], **branches)
    else:
        Decoder(graph, cached=form.cache != "none").write("logits", presents)
    return helper.make_model(
        helper.make_graph(graph.nodes, "decoder", inputs_of(form), outputs, list(graph.constants.values())),
        producer_name="tiny_decoders",
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=9,
    )


def branch(outer: Graph, kind: str, outputs: list[onnx.ValueInfoProto], presents: list[list[str]]) -> onnx.GraphProto:
    """The decoder with its past ("then") or without it ("else"); constants are those of the graph around it."""
    inner = Graph(outer.form, outer.constants, prefix=f"{kind}/")
    presents = [[f"{kind}/{name}" for name in layer] for layer in presents]
    Decoder(inner, cached=kind == "then").write(f"{kind}/logits", presents)
    renamed = []
    for output in outputs:
        info = onnx.ValueInfoProto()
        info.CopyFrom(output)
        info.name = f"{kind}/{output.name}"
        renamed.append(info)
    return helper.make_graph(inner.nodes, kind, [], renamed)


def save(model: onnx.ModelProto, path: Path, external: str | None = None) -> None:
    """Writes the model; with `external`, its large constants go to that file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        data = bytearray()
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) >= INLINE_LIMIT:
                place = {"location": external, "offset": len(data), "length": len(tensor.raw_data)}
                data += tensor.raw_data
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in place.items():
                    tensor.external_data.add(key=key, value=str(value))
        (path.parent / external).write_bytes(data)
    path.write_bytes(model.SerializeToString(deterministic=True))
