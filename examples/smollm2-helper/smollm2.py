"""SmolLM2-135M-Instruct in PyTorch, read from the ONNX folder that `cargo xtask models smollm2` makes: the large model.

    python smollm2.py --model ../../models/smollm2-fp32        # compares its logits with ONNX Runtime's
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from tokenizers import Tokenizer
from torch import Tensor, nn

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the model's chat template puts before a conversation that brings no system turn."""
TURN, END = 1, 2
"""`<|im_start|>` and `<|im_end|>`."""


def chat(question: str) -> str:
    """The text of a conversation's first question, as the model's chat template writes it, up to where it answers."""
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    )


def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@dataclass
class Cache:
    """Keys and values `[layer, row, head, position, size]` of everything read, in memory that does not move."""

    keys: Tensor
    values: Tensor
    length: int = 0


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight


class Layer(nn.Module):
    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name, nn.Parameter(value))


class SmolLm2(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        self.heads, self.groups = config["num_attention_heads"], config["num_key_value_heads"]
        self.size, self.epsilon = config["head_dim"], config["rms_norm_eps"]
        proto = onnx.load(folder / "model.onnx")
        found = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
        layers = config["num_hidden_layers"]
        self.embed = nn.Parameter(found["embed_tokens.weight"])
        self.norm = nn.Parameter(found[f"layers.{layers - 1}.next.norm"])
        self.layers = nn.ModuleList()
        for n in range(layers):
            matrices = {m: found[f"layers.{n}.{m}.weight"].T.contiguous() for m in ("qkv", "o", "gate", "up", "down")}
            first = found["layers.0.input_norm"] if n == 0 else found[f"layers.{n - 1}.next.norm"]
            self.layers.append(Layer(matrices | {"input_norm": first, "post_norm": found[f"layers.{n}.post.norm"]}))
        frequencies = config["rope_theta"] ** (-torch.arange(0, self.size, 2).double() / self.size)
        angles = torch.arange(2048).double()[:, None] * frequencies
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def cache(self, rows: int, positions: int) -> Cache:
        shape = (len(self.layers), rows, self.groups, positions, self.size)
        return Cache(torch.empty(shape, dtype=self.embed.dtype), torch.empty(shape, dtype=self.embed.dtype))

    def rotate(self, x: Tensor, start: int) -> Tensor:
        cos, sin = (table[start : start + x.shape[2]] for table in (self.cos, self.sin))
        a, b = x.float().chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)

    def hidden(self, ids: Tensor, cache: Cache | None = None, first: int = 0) -> Tensor:
        """States before the head, `[rows, length, width]`."""
        x = F.embedding(ids, self.embed)
        start = cache.length if cache else 0
        for n in range(len(self.layers)):
            x = self.layer(n, x, start, cache)
        if cache:
            cache.length += ids.shape[1]
        return rms_norm(x, self.norm, self.epsilon)

    def layer(self, n: int, x: Tensor, start: int, cache: Cache | None) -> Tensor:
        rows, length, width = x.shape
        w = self.layers[n]
        packed = F.linear(rms_norm(x, w.input_norm, self.epsilon), w.qkv).view(rows, length, -1, self.size)
        q, k, v = packed.transpose(1, 2).split((self.heads, self.groups, self.groups), 1)
        q, k = self.rotate(q, start), self.rotate(k, start)
        if cache:
            cache.keys[n, :rows, :, start : start + length] = k
            cache.values[n, :rows, :, start : start + length] = v
            k, v = (part[n, :rows, :, : start + length] for part in (cache.keys, cache.values))
        if length == 1:
            # One new token: the heads of a group are rows of one product.
            q = q.reshape(rows, self.groups, -1, self.size)
            weights = (q @ k.transpose(-1, -2) * self.size**-0.5).float().softmax(-1).to(v.dtype)
            attended = (weights @ v).reshape(rows, self.heads, 1, self.size)
        else:
            k, v = (part.repeat_interleave(self.heads // self.groups, 1) for part in (k, v))
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(attended.transpose(1, 2).reshape(rows, length, width), w.o)
        y = rms_norm(x, w.post_norm, self.epsilon)
        return x + F.linear(F.silu(F.linear(y, w.gate)) * F.linear(y, w.up), w.down)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits `[rows, length, vocabulary]`."""
        return F.linear(self.hidden(ids, cache), self.embed)


def compare(folder: Path) -> float:
    """The largest difference to ONNX Runtime's logits on one question."""
    import onnxruntime

    ids = tokenizer(folder).encode(chat("What is the capital of Kenya?"), add_special_tokens=False).ids
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    pasts = [i for i in session.get_inputs() if i.name.startswith("past")]
    feed = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in pasts}
    feed |= {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    with torch.no_grad():
        ours = SmolLm2(folder)(torch.tensor([ids])).numpy()
    return float(np.abs(session.run(["logits"], feed)[0] - ours).max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    print(f"largest difference of logits: {compare(parser.parse_args().model):.2e}")
