"""The oracle: SmolLM2 itself, tuned on the cards that the small expert was tuned on. What tuning the large model would give.

Its last `TUNED` layers are trained, by all the compute that a laptop's core has for it; the layers below run once and are
remembered. `--score` decodes a split greedily and writes what came out, item by item.

    python oracle.py --model ../../models/smollm2-fp32 --work DIR
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import cards
import smollm2
from examples import Batch, Example, batches
from smollm2 import END, SmolLm2, rms_norm

TUNED = 10
EPOCHS, ROWS, RATE, WARMUP = 4, 8, 2e-4, 10


def lower(model: SmolLm2, ids: Tensor) -> Tensor:
    x = F.embedding(ids, model.embed)
    for n in range(len(model.layers) - TUNED):
        x = model.layer(n, x, 0, None)
    return x


def upper(model: SmolLm2, x: Tensor, where: Tensor) -> Tensor:
    for n in range(len(model.layers) - TUNED, len(model.layers)):
        x = model.layer(n, x, 0, None)
    return F.linear(rms_norm(x[where], model.norm, model.epsilon), model.embed)


def tune(model: SmolLm2, examples: list[Example], seed: int, out: Path) -> None:
    """Keeps what it has learnt after every epoch in `out`, and goes on from there."""
    model.requires_grad_(False)
    trained = model.layers[-TUNED:].requires_grad_(True)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    done = 0
    if out.exists():
        blob = torch.load(out, weights_only=True)
        trained.load_state_dict(blob["layers"])
        done = blob["epochs"]
        if done < EPOCHS:
            optimiser.load_state_dict(blob["optimiser"])
    if done == EPOCHS:
        return
    began = time.monotonic()
    with torch.no_grad():
        below = {id(e): lower(model, torch.tensor([e.tokens]))[0] for e in examples}
    print(f"oracle: lower layers {time.monotonic() - began:.0f} s", flush=True)
    plan = list(batches(examples, ROWS, EPOCHS, seed))
    each = len(plan) // EPOCHS
    for step, chosen in enumerate(plan):
        if step < done * each:
            continue
        batch = Batch.of(chosen)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP, (len(plan) - step) / (0.8 * len(plan)))
        states = torch.nn.utils.rnn.pad_sequence([below[id(e)] for e in chosen], batch_first=True)
        loss = F.cross_entropy(upper(model, states, batch.where), batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 12 == 0:
            print(f"oracle: step {step + 1}/{len(plan)} loss {loss.item():.3f} {time.monotonic() - began:.0f} s", flush=True)
        if (step + 1) % each == 0:
            epochs = (step + 1) // each
            state = {} if epochs == EPOCHS else optimiser.state_dict()
            torch.save(dict(layers=trained.state_dict(), epochs=epochs, optimiser=state), out.with_suffix(".tmp"))
            out.with_suffix(".tmp").replace(out)


@torch.no_grad()
def greedy(model: SmolLm2, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    """Prompts of one length are read and continued together."""
    out: dict[int, list[int]] = {}
    for _, group in itertools.groupby(sorted(range(len(prompts)), key=lambda n: len(prompts[n])), lambda n: len(prompts[n])):
        rows = list(group)
        feed = torch.tensor([prompts[n] for n in rows])
        cache, texts = model.cache(len(rows), feed.shape[1] + new_tokens), [[] for _ in rows]
        for _ in range(new_tokens):
            chosen = F.linear(model.hidden(feed, cache)[:, -1], model.embed).argmax(-1)
            for text, token in zip(texts, chosen.tolist(), strict=True):
                if END not in text:
                    text.append(token)
            if all(END in text for text in texts):
                break
            feed = chosen[:, None]
        out |= zip(rows, texts, strict=True)
    return [out[n] for n in range(len(prompts))]


def score(model: SmolLm2, items: list[cards.Item], folder: Path, out: Path) -> None:
    tok = smollm2.tokenizer(folder)
    written = greedy(model, [Example.of(item, tok).prompt for item in items], 40)
    texts = [tok.decode([token for token in tokens if token != END]) for tokens in written]
    records = [
        {"id": item.id, "text": text, "exact_match": item.accepts(text)} for item, text in zip(items, texts, strict=True)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(record) + "\n" for record in records))
    for kind in cards.KINDS:
        hits = [r["exact_match"] for r, item in zip(records, items, strict=True) if item.kind == kind]
        print(f"oracle: {kind} {sum(hits)}/{len(hits)}", flush=True)


def run(large: Path, work: Path, seed: int, split: str | None, out: Path | None, each: int | None = None) -> None:
    model, items = SmolLm2(large), cards.split(cards.SEED)
    tok = smollm2.tokenizer(large)
    tune(model, [Example.of(item, tok) for item in items["tuning"]], seed, work / "oracle.pt")
    if split:
        chosen = [i for kind in cards.KINDS for i in [i for i in items[split] if i.kind == kind][:each]]
        score(model, chosen, large, out or work / f"oracle.{split}.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="models/smollm2-fp32")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--score", choices=["validation", "test"])
    parser.add_argument("--out", type=Path, help="where the scored split's texts go")
    parser.add_argument("--each", type=int, help="items of a kind to score; all if left out")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run(options.model, options.work, options.seed, options.score, options.out, options.each)


if __name__ == "__main__":
    main()
