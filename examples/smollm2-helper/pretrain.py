"""Trains the small base on the corpus: it learns to give every next token the probability that SmolLM2 gave it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from helper import Helper, save  # noqa: I001  (makes the family's modules importable)
from train import Schedule, fit

ROWS = 8
EPOCHS = 6
RATE = 3e-3
WRITTEN = 0.2
"""Weight of the token that was written, beside the distribution that it was drawn from."""
CHUNK = 128


class Corpus:
    def __init__(self, folder: Path):
        shards = [np.load(path) for path in sorted(folder.glob("*-[0-9][0-9][0-9].npz"))]
        if not shards:
            raise SystemExit(f"{folder}: no corpus; run corpus.py first")
        self.tokens, self.ids, self.log_probs = (
            torch.from_numpy(np.concatenate([shard[key] for shard in shards]).astype(kind))
            for key, kind in (("tokens", np.int64), ("ids", np.int64), ("log_probs", np.float32))
        )

    def __len__(self) -> int:
        return len(self.tokens)


def distillation(logits: Tensor, ids: Tensor, log_p: Tensor, written: Tensor) -> Tensor:
    """KL in nats from the teacher's likely tokens, with everything else as one more, and a little of the written token."""
    total = logits.logsumexp(-1, keepdim=True)
    log_q, p = logits.gather(-1, ids) - total, log_p.exp()
    rest_p, rest_q = ((1 - x.sum(-1)).clamp_min(1e-6) for x in (p, log_q.exp()))
    told = (p * (log_p - log_q)).sum(-1) + rest_p * (rest_p.log() - rest_q.log())
    return told + WRITTEN * (total - logits.gather(-1, written[:, None]))[:, 0]


class Distillation(torch.autograd.Function):
    """The mean over positions, a few at a time: the logits of them all would be gigabytes."""

    @staticmethod
    def forward(ctx, hidden: Tensor, embed: Tensor, ids: Tensor, log_p: Tensor, written: Tensor) -> Tensor:
        of_hidden, of_embed, total = torch.empty_like(hidden), torch.zeros_like(embed), 0.0
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            with torch.enable_grad():
                h = hidden[part].detach()
                logits = F.linear(h, embed).detach().requires_grad_()
                loss = distillation(logits, ids[part], log_p[part], written[part]).sum() / len(hidden)
                (slope,) = torch.autograd.grad(loss, logits)
            of_hidden[part] = slope @ embed
            of_embed.addmm_(slope.T, h)
            total += loss.item()
        ctx.save_for_backward(of_hidden, of_embed)
        return torch.tensor(total)

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_embed = ctx.saved_tensors
        return scale * of_hidden, scale * of_embed, None, None, None


def pretrain(large: Path, corpus: Path, out: Path, seed: int, epochs: float = EPOCHS) -> None:
    torch.manual_seed(seed)
    data = Corpus(corpus)
    proto = onnx.load(large / "model.onnx")
    embedding = next(t for t in proto.graph.initializer if t.name == "embed_tokens.weight")
    model = Helper.beside(torch.from_numpy(numpy_helper.to_array(embedding).copy()))
    steps = int(len(data) * epochs) // ROWS
    order = torch.cat([torch.randperm(len(data)) for _ in range(1 + int(epochs))])
    first = data.tokens.shape[1] - data.ids.shape[1]

    def loss(net: torch.nn.Module, step: int) -> tuple[Tensor, int]:
        rows = order[step * ROWS : (step + 1) * ROWS]
        tokens = data.tokens[rows]
        hidden = net.hidden(tokens[:, :-1])[:, first - 1 :]
        flat = (x.flatten(0, 1) for x in (hidden, data.ids[rows], data.log_probs[rows], tokens[:, first:]))
        states, ids, log_probs, written = flat
        return Distillation.apply(states, net.embed.weight, ids, log_probs, written), len(states)

    print(f"{out.stem}: {model.parameter_count()} parameters, {data.ids[..., 0].numel()} tokens", flush=True)
    checkpoint = out.with_suffix(".checkpoint")
    facts = fit(model, loss, Schedule(steps, RATE, warmup=10, decay=0.6, muon=True), checkpoint, 20)
    save(model, out, seed=seed, rows=ROWS, epochs=epochs, corpus=data.ids[..., 0].numel(), **facts)
    checkpoint.unlink(missing_ok=True)
