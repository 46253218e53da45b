"""Fusion written by hand, as one would without logitfuse: a benchmark peer that works only while it is asked to.

usage: fusion_peer.py ENGINE FOLDER [--threads N] [--spin on|off] [--side-by-side]

ENGINE is `genai` (three onnxruntime-genai generators, logits taken out and fused), `onnxruntime` (three sessions of
Python onnxruntime whose caches stay in OrtValues) or `transformers` (three Llama models of PyTorch, as published code of
proxy tuning has them; float32 models of this project's converter only, whose weights are read from the ONNX file). All load
the model three times, for base, expert and anti, and choose the greedy token of base + expert - anti. `--side-by-side` runs
the three from three Python threads.

Requests and answers are those of genai_peer.py, `run` alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

ROLES = 3


class Source(Protocol):
    """A model with a cache: reads tokens, answers with the logits after the last."""

    def start(self, length: int) -> None: ...

    def read(self, tokens: list[int]) -> np.ndarray: ...


class Genai:
    def __init__(self, folder: Path, threads: int, spin: bool) -> None:
        from genai_peer import load

        self.model = load(folder, threads, spin)

    def start(self, length: int) -> None:
        import onnxruntime_genai as og

        params = og.GeneratorParams(self.model)
        params.set_search_options(max_length=length, do_sample=False)
        self.generator = og.Generator(self.model, params)

    def read(self, tokens: list[int]) -> np.ndarray:
        self.generator.append_tokens(np.array(tokens, np.int32))
        logits = self.generator.get_logits()
        return logits.reshape(-1, logits.shape[-1])[-1]


class OnnxRuntime:
    def __init__(self, folder: Path, threads: int, spin: bool) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        self.session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.past = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values")]
        self.zeros = ort.OrtValue.ortvalue_from_numpy

    def start(self, length: int) -> None:
        del length
        self.length = 0
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        self.cache = [
            self.zeros(np.zeros((1, i.shape[1], 0, i.shape[3]), kinds[i.type])) for i in self.past
        ]

    def read(self, tokens: list[int]) -> np.ndarray:
        self.length += len(tokens)
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([tokens], np.int64))
        binding.bind_cpu_input("attention_mask", np.ones((1, self.length), np.int64))
        for entry, value in zip(self.past, self.cache):
            binding.bind_ortvalue_input(entry.name, value)
        binding.bind_output("logits")
        for entry in self.past:
            binding.bind_output(entry.name.replace("past_key_values", "present"))
        self.session.run_with_iobinding(binding)
        logits, *self.cache = binding.get_outputs()
        return logits.numpy()[0, -1]


class Transformers:
    def __init__(self, folder: Path, threads: int, spin: bool) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        del spin
        if threads:
            torch.set_num_threads(threads)
        config = LlamaConfig(**json.loads((folder / "config.json").read_text()))
        with torch.device("meta"):
            self.model = LlamaForCausalLM(config)
        weights = {name: torch.tensor(array) for name, array in llama_weights(folder, config).items()}
        # The rotary frequencies are no weights: a model that was made of nothing has to make them again.
        self.model.load_state_dict(weights, strict=False, assign=True)
        self.model.tie_weights()
        self.model.model.rotary_emb = type(self.model.model.rotary_emb)(config)
        self.model.eval()
        self.torch = torch

    def start(self, length: int) -> None:
        del length
        self.cache = None

    def read(self, tokens: list[int]) -> np.ndarray:
        with self.torch.inference_mode():
            ids = self.torch.tensor([tokens])
            out = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = out.past_key_values
        return out.logits[0, -1].numpy()


def llama_weights(folder: Path, config: object) -> dict[str, np.ndarray]:
    """The weights of an ONNX file by the names that transformers gives them, each `[out, in]`."""
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(folder / "model.onnx").graph
    ours = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    layers, head = config.num_hidden_layers, config.head_dim
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    theirs = {"model.embed_tokens.weight": ours["embed_tokens.weight"]}
    norm = ours["layers.0.input_norm"]
    for i in range(layers):
        of = lambda name: ours[f"layers.{i}.{name}"]
        matrices = dict(zip("qkv", np.split(of("qkv.weight"), [queries, queries + keys], axis=1)))
        parts = {f"self_attn.{name}_proj": matrix for name, matrix in matrices.items()}
        parts["self_attn.o_proj"] = of("o.weight")
        parts |= {f"mlp.{name}_proj": of(f"{name}.weight") for name in ("gate", "up", "down")}
        theirs |= {f"model.layers.{i}.{name}.weight": np.ascontiguousarray(m.T) for name, m in parts.items()}
        theirs[f"model.layers.{i}.input_layernorm.weight"] = norm
        theirs[f"model.layers.{i}.post_attention_layernorm.weight"] = of("post.norm")
        # A layer's last normalisation is fused into its end; what it scales by is the next layer's.
        norm = of("next.norm")
    return theirs | {"model.norm.weight": norm}


ENGINES: dict[str, Callable[[Path, int, bool], Source]] = {
    "genai": Genai,
    "onnxruntime": OnnxRuntime,
    "transformers": Transformers,
}


def generate(sources: list[Source], pool: ThreadPoolExecutor | None, prompt: list[int], new_tokens: int) -> dict:
    marks, tokens = [time.perf_counter()], []
    for source in sources:
        source.start(len(prompt) + new_tokens)
    feed = prompt
    while len(tokens) < new_tokens:
        run = pool.map if pool else map
        base, expert, anti = run(lambda source: source.read(feed), sources)
        feed = [int(np.argmax(base + (expert - anti)))]
        tokens += feed
        marks.append(time.perf_counter())
    first, *others = (1000 * np.diff(marks)).tolist()
    return {"first_token_ms": first, "token_ms": others, "tokens": tokens}


def answer(value: dict) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=list(ENGINES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as ONNX Runtime likes")
    parser.add_argument("--spin", choices=["on", "off"], default="on")
    parser.add_argument("--side-by-side", action="store_true")
    args = parser.parse_args()

    start = time.perf_counter()
    sources = [ENGINES[args.engine](args.folder, args.threads, args.spin == "on") for _ in range(ROLES)]
    pool = ThreadPoolExecutor(ROLES) if args.side_by_side else None
    answer({"ready": True, "load_ms": 1000 * (time.perf_counter() - start)})
    for line in sys.stdin:
        match line.split():
            case ["run", new_tokens, *prompt] if prompt:
                answer(generate(sources, pool, [int(word) for word in prompt], int(new_tokens)))
            case _:
                answer({"error": f"no such request: {line.strip()}"})


if __name__ == "__main__":
    main()
