"""The small model: the family's decoder with SmolLM2's 49 152 tokens, whose embedding is a factor of SmolLM2's own.

With so many tokens a small model is nearly all embedding. Here every token has `RANK` numbers, the same for reading and
writing, and two matrices lead from there to the decoder's width and back. They begin as the best such factor of the large
model's embedding, so that words which are alike to SmolLM2 are alike from the start.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parent.parent / "family"))

from model import Block, Norm, Shape, rotary_tables  # noqa: E402

SHAPE = Shape(width=192, layers=4, heads=3, feed_forward=512)
RANK = 96
QUANTISED_BLOCK = 32


class Helper(nn.Module):
    def __init__(self, shape: Shape, rank: int, vocabulary: int):
        super().__init__()
        self.shape, self.rank, self.vocabulary = shape, rank, vocabulary
        self.embed = nn.Embedding(vocabulary, rank)
        self.widen = nn.Linear(rank, shape.width, bias=False)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        self.narrow = nn.Linear(shape.width, rank, bias=False)
        cos, sin = rotary_tables(shape.head_size)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.blocks.named_parameters():
            if p.dim() == 2:
                gain = (2 * shape.layers) ** -0.5 if name.endswith(("o.weight", "down.weight")) else 1.0
                nn.init.normal_(p, std=0.7 * gain / p.shape[1] ** 0.5)

    @classmethod
    def beside(cls, embedding: Tensor) -> Helper:
        """A new one, with the factor of a large model's embedding `[vocabulary, width]`."""
        model = cls(SHAPE, RANK, len(embedding))
        values, vectors = torch.linalg.eigh(embedding.T @ embedding)
        factor = embedding @ vectors[:, -RANK:]
        with torch.no_grad():
            # Of unit size on average, whatever the large model's is: the norms behind it set the scale.
            model.embed.weight.copy_(factor / factor.square().mean().sqrt() * 0.1)
        return model

    def hidden(self, ids: Tensor) -> Tensor:
        """What the embedding is multiplied with to give logits, `[rows, length, rank]`."""
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = self.widen(self.embed(ids))
        for block in self.blocks:
            x, _ = block(x, cos, sin, None, None)
        return self.narrow(self.norm(x))

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.hidden(ids), self.embed.weight)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix `[out, in]` as bytes around 128 and one scale for each `QUANTISED_BLOCK` inputs."""
    blocks = weight.float().unflatten(1, (-1, QUANTISED_BLOCK))
    scales = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return (blocks / scales).round().add(128).to(torch.uint8), scales.squeeze(-1)


def rounded(weight: Tensor) -> Tensor:
    values, scales = quantise(weight)
    return ((values.float() - 128) * scales[..., None]).flatten(1)


def save(model: Helper, path: Path, **info: object) -> None:
    """Matrices are rounded to eight bits here, once: tuning starts from, and export writes, the numbers that were saved."""
    state = {name: rounded(t) if t.dim() == 2 else t.float() for name, t in model.state_dict().items()}
    blob = dict(shape=asdict(model.shape), rank=model.rank, vocabulary=model.vocabulary, info=info, state=state)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(blob, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load(path: Path) -> Helper:
    blob = torch.load(path, weights_only=True)
    model = Helper(Shape(**blob["shape"]), blob["rank"], blob["vocabulary"])
    model.load_state_dict(blob["state"])
    return model.eval()
