"""The decoder that all members share: pre-norm RMSNorm, rotary positions, SwiGLU, embedding tied to the head."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT = 512
"""Tokens of a training row, and the most that a member reads."""
EPSILON = 1e-5
THETA = 10_000.0

Cache = list[tuple[Tensor, Tensor] | None]


@dataclass(frozen=True)
class Shape:
    width: int
    layers: int
    heads: int
    feed_forward: int

    @property
    def head_size(self) -> int:
        return self.width // self.heads


SHAPES = {"L": Shape(256, 6, 4, 704), "S": Shape(64, 3, 2, 208)}


class Norm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + EPSILON)).to(x.dtype) * self.weight.to(x.dtype)


def rotary_tables(head_size: int, positions: int = CONTEXT) -> tuple[Tensor, Tensor]:
    frequencies = THETA ** (-torch.arange(0, head_size, 2).float() / head_size)
    angles = torch.arange(positions).float()[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.heads, width, inner = shape.heads, shape.width, shape.feed_forward
        self.input_norm, self.post_norm = Norm(width), Norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, length, width = x.shape
        q, k, v = self.qkv(self.input_norm(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.o(attended.transpose(1, 2).reshape(rows, length, width))
        gate, up = self.gate_up(self.post_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up), (k, v)


class Decoder(nn.Module):
    def __init__(self, shape: Shape, vocabulary: int):
        super().__init__()
        self.shape, self.vocabulary = shape, vocabulary
        self.embed = nn.Embedding(vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        cos, sin = rotary_tables(shape.head_size)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        residual = (2 * shape.layers) ** -0.5
        for name, p in self.named_parameters():
            if name == "embed.weight":
                nn.init.normal_(p, std=0.02)
            elif p.dim() == 2:
                gain = residual if name.endswith(("o.weight", "down.weight")) else 1.0
                nn.init.normal_(p, std=0.7 * gain / math.sqrt(p.shape[1]))

    def forward(self, ids: Tensor, mask: Tensor | None = None, start: int = 0, cache: Cache | None = None) -> Tensor:
        """Logits `[rows, length, vocabulary]`. A `cache` (one entry a layer, `None` at first) is brought up to date."""
        cos, sin = self.cos[start : start + ids.shape[1]], self.sin[start : start + ids.shape[1]]
        x = self.embed(ids)
        for n, block in enumerate(self.blocks):
            x, kept = block(x, cos, sin, mask, cache[n] if cache else None)
            if cache:
                cache[n] = kept
        return F.linear(self.norm(x), self.embed.weight)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def save(model: Decoder, path: Path, **info: object) -> None:
    """Weights are rounded to half precision here, once, so that whatever reads them computes with the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    blob = dict(shape=asdict(model.shape), vocabulary=model.vocabulary, info=info, state=state)
    torch.save(blob, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load(path: Path) -> Decoder:
    blob = torch.load(path, weights_only=True)
    model = Decoder(Shape(**blob["shape"]), blob["vocabulary"])
    model.load_state_dict({name: tensor.float() for name, tensor in blob["state"].items()})
    return model.eval()


def info(path: Path) -> dict:
    return torch.load(path, weights_only=True)["info"]
