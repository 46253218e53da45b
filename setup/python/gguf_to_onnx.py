"""Turn a GGUF file of the llama architecture into an ONNX decoder folder, without torch.

usage: gguf_to_onnx.py FILE.gguf OUT_DIR [--weights int8|int4|fp32]

The graph is the one that onnxruntime-genai's model builder makes: (Skip)SimplifiedLayerNormalization,
GroupQueryAttention with its own rotary embedding, a SiLU-gated feed-forward block, MatMul or MatMulNBits. The folder
opens both as the onnxruntime-genai layout (genai_config.json) and as the Hugging Face layout (config.json,
generation_config.json); gguf_tokenizer.py, beside this file, writes the tokenizer.

Weights:
  int8  symmetric 8-bit blocks of 32: close to lossless whatever the GGUF's own quantisation was
  int4  4-bit blocks of 32 by rounding: a second quantisation, so a second loss; embedding and head stay 8-bit
  fp32  as the GGUF dequantises
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from gguf import GGUFReader, dequantize
from onnx import TensorProto, helper

from block_quantisation import BLOCK, quantise_4bit, quantise_8bit

MICROSOFT = "com.microsoft"
INLINE_LIMIT = 1024
"""Bytes up to which a constant lives in model.onnx itself; larger ones go to the external data file."""
PAGE = 4096
"""Alignment of external tensors, so that a runtime can map them."""


@dataclass(frozen=True)
class Architecture:
    """What the GGUF header says of the model, under the names that this file uses."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    rms_epsilon: float
    rope_theta: float
    context: int
    token_ids: dict[str, int]
    """`bos_token_id`, `eos_token_id`, `pad_token_id`, as far as they are given."""

    @classmethod
    def read(cls, reader: GGUFReader) -> Architecture:
        fields = reader.fields
        name = fields["general.architecture"].contents()
        if name != "llama":
            raise SystemExit(f"architecture {name!r} is not covered, only 'llama' is")

        def get(key: str, default=None):
            field = fields.get(f"llama.{key}")
            return default if field is None else field.contents()

        ids = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
        ids = {ours: fields.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in ids.items()}
        hidden, heads = int(get("embedding_length")), int(get("attention.head_count"))
        return cls(
            layers=int(get("block_count")),
            hidden=hidden,
            feed_forward=int(get("feed_forward_length")),
            heads=heads,
            kv_heads=int(get("attention.head_count_kv")),
            head_size=int(get("rope.dimension_count", hidden // heads)),
            rms_epsilon=float(get("attention.layer_norm_rms_epsilon")),
            rope_theta=float(get("rope.freq_base", 10000.0)),
            context=int(get("context_length")),
            token_ids={key: int(field.contents()) for key, field in ids.items() if field is not None},
        )


class Weights:
    """The GGUF's tensors, dequantised to float32 one at a time."""

    def __init__(self, reader: GGUFReader):
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        # GGUF lists dimensions fastest first.
        shape = [int(n) for n in reversed(tensor.shape)]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)


class GraphWriter:
    """Collects nodes and constants; large constants go straight to the external data file."""

    def __init__(self, folder: Path):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._model = folder / "model.onnx"
        self._data_name = "model.onnx.data"
        self._data = open(folder / self._data_name, "wb")

    def node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes) -> str:
        """Adds a node and gives back the name of its first output."""
        name = "/" + outputs[0].strip("/")
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, values: np.ndarray) -> str:
        values = np.ascontiguousarray(values)
        dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = onnx.TensorProto(name=name, data_type=dtype, dims=values.shape)
        if values.nbytes < INLINE_LIMIT:
            tensor.raw_data = values.tobytes()
        else:
            self._data.write(b"\0" * (-self._data.tell() % PAGE))
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._data_name, "offset": self._data.tell(), "length": values.nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            values.tofile(self._data)
            # `tofile` writes past Python's buffer, so `tell` above is right only if that buffer is empty.
            self._data.flush()
        self.constants.append(tensor)
        return name

    def save(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> None:
        self._data.close()
        model = helper.make_model(
            helper.make_graph(self.nodes, "decoder", inputs, outputs, self.constants),
            producer_name="gguf_to_onnx",
            opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=9,
        )
        self._model.write_bytes(model.SerializeToString())


class Decoder:
    """Writes the decoder graph, block by block."""

    def __init__(self, arch: Architecture, weights: Weights, precision: str, folder: Path):
        self.arch, self.weights = arch, weights
        self.body_bits = {"fp32": None, "int8": 8, "int4": 4}[precision]
        self.head_bits = None if precision == "fp32" else 8
        self.graph = GraphWriter(folder)
        self.inputs = [
            integers("input_ids", "sequence_length"),
            integers("attention_mask", "total_sequence_length"),
        ]
        self.presents: list[onnx.ValueInfoProto] = []

    def write(self) -> int:
        """Writes model.onnx and its data; gives back the vocabulary's size."""
        self.sequence_lengths()
        self.rotary_tables()
        vocab, hidden = self.embedding()
        norm = self.graph.constant("layers.0.input_norm", self.weights["blk.0.attn_norm.weight"])
        epsilon = self.arch.rms_epsilon
        normed = self.graph.node(
            "SimplifiedLayerNormalization", [hidden, norm], ["layers.0/in"], axis=-1, epsilon=epsilon, stash_type=1
        )
        for layer in range(self.arch.layers):
            hidden, normed = self.layer(layer, hidden, normed)
        self.head(vocab, normed)
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", vocab])
        self.graph.save(self.inputs, [logits, *self.presents])
        return vocab

    def sequence_lengths(self) -> None:
        """GroupQueryAttention wants each row's last index and the longest row's length; the mask holds both."""
        node, constant = self.graph.node, self.graph.constant
        constant("one", np.array([1], np.int64))
        constant("axis1", np.array(1, np.int64))
        node("ReduceSum", ["attention_mask", "one"], ["mask/sum"], keepdims=1)
        node("Sub", ["mask/sum", "one"], ["mask/sub"])
        node("Cast", ["mask/sub"], ["seqlens_k"], to=TensorProto.INT32)
        node("Shape", ["attention_mask"], ["mask/shape"])
        node("Gather", ["mask/shape", "axis1"], ["mask/total"], axis=0)
        node("Cast", ["mask/total"], ["total_sequence_length_i32"], to=TensorProto.INT32)

    def rotary_tables(self) -> None:
        size = self.arch.head_size
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        frequencies = (1.0 / self.arch.rope_theta**exponents).astype(np.float32)
        angles = np.outer(np.arange(self.arch.context, dtype=np.float32), frequencies)
        self.graph.constant("cos_cache", np.cos(angles).astype(np.float32))
        self.graph.constant("sin_cache", np.sin(angles).astype(np.float32))

    def embedding(self) -> tuple[int, str]:
        """The table is kept for the head: the two are tied."""
        if "output.weight" in self.weights:
            raise SystemExit("a head of its own (output.weight) is not covered, only one tied to the embedding is")
        node, constant = self.graph.node, self.graph.constant
        table = self.weights["token_embd.weight"]
        vocab, hidden = table.shape
        if self.head_bits is None:
            return vocab, node("Gather", [constant("embed_tokens.weight", table), "input_ids"], ["embed"], axis=0)
        quantised = quantise_8bit(table)
        self.embedding_scales = quantised.scales
        constant("embed_q", quantised.packed)
        constant("embed_scales", quantised.scales.reshape(vocab, -1))
        constant("embed_shape", np.array([vocab, hidden * self.head_bits // 8], np.int64))
        node("Reshape", ["embed_q", "embed_shape"], ["embed_q2"])
        return vocab, node(
            "GatherBlockQuantized", ["embed_q2", "input_ids", "embed_scales"], ["embed"], domain=MICROSOFT,
            bits=self.head_bits, block_size=BLOCK, gather_axis=0, quantize_axis=1,
        )

    def head(self, vocab: int, normed: str) -> None:
        if self.head_bits is None:
            self.graph.node("Transpose", ["embed_tokens.weight"], ["lm_head.weight"], perm=[1, 0])
            self.graph.node("MatMul", [normed, "lm_head.weight"], ["logits"])
            return
        # The same packed table as the embedding; only the scales are wanted in another shape.
        self.graph.constant("lm_scales", self.embedding_scales)
        self.matmul_nbits([normed, "embed_q", "lm_scales"], "logits", self.arch.hidden, vocab, self.head_bits)

    def layer(self, layer: int, hidden: str, normed: str) -> tuple[str, str]:
        """One transformer block: the residual stream and its normalised view, before and after."""
        gguf, ours = f"blk.{layer}", f"layers.{layer}"
        attended = self.attention(layer, normed)
        hidden, normed = self.add_and_norm(hidden, attended, f"{ours}.post", f"{gguf}.ffn_norm.weight")
        transformed = self.feed_forward(layer, normed)
        last = layer + 1 == self.arch.layers
        next_norm = "output_norm.weight" if last else f"blk.{layer + 1}.attn_norm.weight"
        return self.add_and_norm(hidden, transformed, f"{ours}.next", next_norm)

    def attention(self, layer: int, normed: str) -> str:
        arch, gguf, ours = self.arch, f"blk.{layer}", f"layers.{layer}"
        query = self.rotary_halves(self.weights[f"{gguf}.attn_q.weight"], arch.heads)
        key = self.rotary_halves(self.weights[f"{gguf}.attn_k.weight"], arch.kv_heads)
        qkv = np.concatenate([query, key, self.weights[f"{gguf}.attn_v.weight"]])
        packed = self.linear(f"{ours}.qkv", normed, qkv, f"{ours}/qkv")

        pasts = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        presents = [f"present.{layer}.{part}" for part in ("key", "value")]
        self.inputs += [self.cache(name, "past_sequence_length") for name in pasts]
        self.presents += [self.cache(name, "total_sequence_length") for name in presents]
        lengths = ["seqlens_k", "total_sequence_length_i32"]
        attended = self.graph.node(
            "GroupQueryAttention", [packed, "", "", *pasts, *lengths, "cos_cache", "sin_cache"],
            [f"{ours}/attn", *presents], domain=MICROSOFT, num_heads=arch.heads, kv_num_heads=arch.kv_heads,
            scale=float(arch.head_size) ** -0.5, do_rotary=1, rotary_interleaved=0,
        )
        return self.linear(f"{ours}.o", attended, self.weights[f"{gguf}.attn_output.weight"], f"{ours}/o")

    def feed_forward(self, layer: int, normed: str) -> str:
        gguf, ours, node = f"blk.{layer}", f"layers.{layer}", self.graph.node
        gate = self.linear(f"{ours}.gate", normed, self.weights[f"{gguf}.ffn_gate.weight"], f"{ours}/gate")
        up = self.linear(f"{ours}.up", normed, self.weights[f"{gguf}.ffn_up.weight"], f"{ours}/up")
        sigmoid = node("Sigmoid", [gate], [f"{ours}/sig"])
        silu = node("Mul", [gate, sigmoid], [f"{ours}/silu"])
        gated = node("Mul", [silu, up], [f"{ours}/act"])
        return self.linear(f"{ours}.down", gated, self.weights[f"{gguf}.ffn_down.weight"], f"{ours}/down")

    def rotary_halves(self, matrix: np.ndarray, heads: int) -> np.ndarray:
        """llama.cpp interleaves the two halves that a rotation mixes; the operator wants them one after the other."""
        return matrix.reshape(heads, self.arch.head_size // 2, 2, -1).swapaxes(1, 2).reshape(matrix.shape)

    def cache(self, name: str, length: str) -> onnx.ValueInfoProto:
        shape = ["batch_size", self.arch.kv_heads, length, self.arch.head_size]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def add_and_norm(self, residual: str, update: str, name: str, weight: str) -> tuple[str, str]:
        total, normed = f"{name}/sum", f"{name}/normed"
        norm = self.graph.constant(f"{name}.norm", self.weights[weight])
        self.graph.node(
            "SkipSimplifiedLayerNormalization", [residual, update, norm], [normed, "", "", total],
            domain=MICROSOFT, epsilon=self.arch.rms_epsilon,
        )
        return total, normed

    def linear(self, name: str, x: str, matrix: np.ndarray, output: str) -> str:
        """`x @ matrix.T` in the body's precision."""
        constant = self.graph.constant
        if self.body_bits is None:
            return self.graph.node("MatMul", [x, constant(f"{name}.weight", matrix.T)], [output])
        quantised = quantise_8bit(matrix) if self.body_bits == 8 else quantise_4bit(matrix)
        inputs = [x, constant(f"{name}.weight_Q{self.body_bits}", quantised.packed)]
        inputs.append(constant(f"{name}.weight_scales", quantised.scales))
        if quantised.zero_points is not None:
            inputs.append(constant(f"{name}.weight_zp", quantised.zero_points))
        rows, columns = matrix.shape
        return self.matmul_nbits(inputs, output, columns, rows, self.body_bits)

    def matmul_nbits(self, inputs: list[str], output: str, k: int, n: int, bits: int) -> str:
        # accuracy_level 4 lets the kernel quantise activations to int8 too; that is what makes it fast on a CPU.
        return self.graph.node(
            "MatMulNBits", inputs, [output], domain=MICROSOFT,
            K=k, N=n, bits=bits, block_size=BLOCK, accuracy_level=4,
        )


def integers(name: str, length: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", length])


def genai_config(arch: Architecture, vocab: int) -> dict:
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": arch.head_size,
        "hidden_size": arch.hidden,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": arch.heads,
        "num_hidden_layers": arch.layers,
        "num_key_value_heads": arch.kv_heads,
    }
    model = {**arch.token_ids, "context_length": arch.context, "decoder": decoder, "type": "llama", "vocab_size": vocab}
    search = {
        "do_sample": False,
        "max_length": arch.context,
        "past_present_share_buffer": True,
        "top_k": 50,
        "top_p": 1.0,
        "temperature": 1.0,
    }
    return {"model": model, "search": search}


def hugging_face_config(arch: Architecture, vocab: int) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **arch.token_ids,
        "hidden_size": arch.hidden,
        "intermediate_size": arch.feed_forward,
        "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads,
        "head_dim": arch.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": arch.rms_epsilon,
        "rope_theta": arch.rope_theta,
        "rope_scaling": None,
        "max_position_embeddings": arch.context,
        "tie_word_embeddings": True,
        "vocab_size": vocab,
        "torch_dtype": "float32",
        "use_cache": True,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", choices=["int8", "int4", "fp32"], default="int8")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    # Reading the token lists takes as long as the weights do, so it runs beside them.
    script = Path(__file__).with_name("gguf_tokenizer.py")
    tokenizer = subprocess.Popen([sys.executable, script, args.gguf, args.out])
    try:
        reader = GGUFReader(args.gguf)
        arch = Architecture.read(reader)
        vocab = Decoder(arch, Weights(reader), args.weights, args.out).write()
    finally:
        tokenizer_failed = tokenizer.wait()
    if tokenizer_failed:
        raise SystemExit("the tokenizer could not be written")

    configs = {
        "genai_config.json": genai_config(arch, vocab),
        "config.json": hugging_face_config(arch, vocab),
        "generation_config.json": arch.token_ids,
    }
    for name, config in configs.items():
        (args.out / name).write_text(json.dumps(config, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
