"""Writes members as ONNX folders in the Hugging Face layout.

    python export.py --work DIR --seed 1 --out models --items data [--members L S …] [--check 20]

The graph is a decoder with `GroupQueryAttention`, so that a runtime can keep the cache in one shared buffer. Weights are
stored in half precision, as the checkpoints hold them, and widened when the model is loaded: what runs is float32
arithmetic on the very numbers that PyTorch computes with. `--check` compares greedy texts of both, token by token.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import data
import tokenizer
from evaluate import Family
from fingerprint import PROMPTS, SLACK
from model import CONTEXT, EPSILON, THETA, Decoder, load, rotary_tables
from tasks import TASKS, UNSEEN
from tokenizer import END, plain

MICROSOFT = "com.microsoft"
DEMONSTRATIONS = 16
MEMBERS = ["L", "S", *(f"S-{task}" for task in TASKS)]


class Graph:
    """Nodes and constants under way. A value is the name of its tensor."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: object) -> str:
        name = "/" + outputs[0]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, name: str, values: torch.Tensor) -> str:
        """Stored in half precision, used in single."""
        half = values.half().numpy()
        if not np.array_equal(half.astype(np.float32), values.numpy()):
            raise SystemExit(f"{name}: the checkpoint does not hold half-precision numbers")
        return self.op("Cast", [self.constant(f"{name}.half", half)], [name], to=TensorProto.FLOAT)

    def linear(self, name: str, x: str, matrix: torch.Tensor) -> str:
        return self.op("MatMul", [x, self.weight(name, matrix.T.contiguous())], [f"{name}/out"])

    def norm(self, name: str, x: str, weight: torch.Tensor) -> str:
        inputs = [x, self.weight(name, weight)]
        return self.op("SimplifiedLayerNormalization", inputs, [f"{name}/out"], axis=-1, epsilon=EPSILON, stash_type=1)


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


def decoder_graph(model: Decoder) -> onnx.ModelProto:
    graph, shape = Graph(), model.shape
    inputs = [
        tensor("input_ids", TensorProto.INT64, "batch_size", "sequence_length"),
        tensor("attention_mask", TensorProto.INT64, "batch_size", "total_sequence_length"),
    ]
    outputs = [tensor("logits", TensorProto.FLOAT, "batch_size", "sequence_length", model.vocabulary)]
    lengths = sequence_lengths(graph)
    cos, sin = rotary_tables(shape.head_size)
    tables = [graph.constant("cos_cache", cos.numpy()), graph.constant("sin_cache", sin.numpy())]
    embed = graph.weight("embed", model.embed.weight.data)
    hidden = graph.op("Gather", [embed, "input_ids"], ["embedded"], axis=0)
    for n, block in enumerate(model.blocks):
        name = f"layers.{n}"
        packed = graph.linear(f"{name}.qkv", graph.norm(f"{name}.input_norm", hidden, block.input_norm.weight.data),
                              block.qkv.weight.data)
        pasts, presents = ([f"{kind}.{n}.{part}" for part in ("key", "value")] for kind in ("past_key_values", "present"))
        cache = ("batch_size", shape.heads)
        inputs += [tensor(p, TensorProto.FLOAT, *cache, "past_sequence_length", shape.head_size) for p in pasts]
        outputs += [tensor(p, TensorProto.FLOAT, *cache, "total_sequence_length", shape.head_size) for p in presents]
        attended = graph.op(
            "GroupQueryAttention", [packed, "", "", *pasts, *lengths, *tables], [f"{name}.attended", *presents],
            domain=MICROSOFT, num_heads=shape.heads, kv_num_heads=shape.heads, do_rotary=1, rotary_interleaved=0,
            scale=shape.head_size**-0.5,
        )
        hidden = graph.op("Add", [hidden, graph.linear(f"{name}.o", attended, block.o.weight.data)], [f"{name}.middle"])
        normed = graph.norm(f"{name}.post_norm", hidden, block.post_norm.weight.data)
        gate_weight, up_weight = block.gate_up.weight.data.chunk(2)
        gate = graph.linear(f"{name}.gate", normed, gate_weight)
        up = graph.linear(f"{name}.up", normed, up_weight)
        silu = graph.op("Mul", [gate, graph.op("Sigmoid", [gate], [f"{name}.sigmoid"])], [f"{name}.silu"])
        down = graph.linear(f"{name}.down", graph.op("Mul", [silu, up], [f"{name}.gated"]), block.down.weight.data)
        hidden = graph.op("Add", [hidden, down], [f"{name}.hidden"])
    head = graph.op("Transpose", [embed], ["head"], perm=[1, 0])
    graph.op("MatMul", [graph.norm("norm", hidden, model.norm.weight.data), head], ["logits"])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    body = helper.make_graph(graph.nodes, "decoder", inputs, outputs, graph.constants)
    return helper.make_model(body, producer_name="logitfuse family", opset_imports=opsets, ir_version=9)


def write(model: Decoder, data_folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(decoder_graph(model).SerializeToString())
    shutil.copy(data_folder / "tokenizer.json", out / "tokenizer.json")
    end = tokenizer.load(data_folder).token_to_id(END)
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    shape = model.shape
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **ids, "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads, "head_dim": shape.head_size, "hidden_act": "silu",
        "rms_norm_eps": EPSILON, "rope_theta": THETA, "rope_scaling": None, "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True, "vocab_size": model.vocabulary, "torch_dtype": "float32", "use_cache": True,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END, "pad_token": END,
        "add_prefix_space": False, "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT,
    }
    for name, content in [("config", config), ("generation_config", ids), ("tokenizer_config", tokenizer_config)]:
        (out / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def onnx_greedy(path: Path, prompt: list[int], end: int, new_tokens: int) -> list[int]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    pasts = [spec for spec in session.get_inputs() if spec.name.startswith("past")]
    cache = {spec.name: np.zeros((1, spec.shape[1], 0, spec.shape[3]), np.float32) for spec in pasts}
    feed, length, out = prompt, 0, []
    while len(out) < new_tokens:
        length += len(feed)
        inputs = {"input_ids": np.array([feed]), "attention_mask": np.ones((1, length), np.int64), **cache}
        logits, *presents = session.run(None, inputs)
        cache = dict(zip(cache, presents, strict=True))
        feed = [int(logits[0, -1].argmax())]
        if feed == [end]:
            break
        out += feed
    return out


def check(model: Decoder, path: Path, folder: Path, count: int) -> None:
    """Greedy texts of the ONNX model and the checkpoint agree on validation prompts of every task."""
    from decode import Source, decode
    from rules import alone

    tok = tokenizer.load(folder)
    end = tok.token_to_id(END)
    tasks = [*TASKS, *UNSEEN]
    items = [data.read(folder, tasks[n % len(tasks)], "validation")[n] for n in range(count)]
    for item in items:
        prompt = [end, *plain(tok, item.prompt)]
        expected, found = decode(alone, Source(model, [prompt]), end, 24).tokens[0], onnx_greedy(path, prompt, end, 24)
        if expected != found:
            raise SystemExit(f"{path}: {item.id}: ONNX wrote {tok.decode(found)!r}, PyTorch {tok.decode(expected)!r}")


def write_items(folder: Path, out: Path) -> None:
    """Validation and test items, solved examples to show in a prompt, and the prompts of every expert's fingerprint."""
    out.mkdir(parents=True, exist_ok=True)
    for task in [*TASKS, *UNSEEN]:
        for split in ("validation", "test"):
            shutil.copy(folder / f"{task}.{split}.jsonl", out)
    for task in TASKS:
        shown = data.tuning_items(folder, task)[:DEMONSTRATIONS]
        unlabelled = data.calibration_items(folder, task)[:PROMPTS]
        write_lines(out / f"{task}.demonstrations.jsonl", [{"prompt": i.prompt, "answer": i.answer} for i in shown])
        write_lines(out / f"{task}.prompts.jsonl", [{"prompt": i.prompt} for i in unlabelled])


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_fingerprints(family: Family, out: Path) -> None:
    """Every expert's centres as probabilities of the likely tokens; what is left out is a ten-thousandth of each."""
    prints = family.fingerprints()
    models = ["S", *(f"S-{task}" for task in TASKS)]
    experts = []
    for task, centres, radius in zip(TASKS, prints.centres, prints.radii, strict=True):
        shown = {name: likely(centre) for name, centre in zip(models, centres, strict=True)}
        experts.append({"expert": f"S-{task}", "radius_nats": float(f"{radius:.6g}"), "centres": shown})
    blob = {"prompts": PROMPTS, "slack": SLACK, "vocabulary": prints.centres.shape[-1], "experts": experts}
    out.write_text(json.dumps(blob) + "\n")


def likely(centre: torch.Tensor) -> list[list[float]]:
    """Pairs of token id and probability, the most likely first."""
    probabilities, ids = centre.exp().sort(descending=True)
    kept = int((probabilities.cumsum(0) < 1 - 1e-4).sum()) + 1
    return [[int(i), float(f"{p:.5g}")] for i, p in zip(ids[:kept], probabilities[:kept].tolist(), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--members", nargs="*", default=MEMBERS)
    parser.add_argument("--items", type=Path, help="a folder for the items of validation and test, too")
    parser.add_argument("--check", type=int, default=20, metavar="PROMPTS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.members:
        model = load(options.work / f"seed{options.seed}" / f"{name}.pt")
        write(model, options.work / "data", options.out / name)
        path = options.out / name / "model.onnx"
        check(model, path, options.work / "data", options.check)
        print(f"{name}: {path.stat().st_size / 1e6:.2f} MB, {options.check} greedy texts equal", flush=True)

    write_fingerprints(Family(options.work, options.seed), options.out / "fingerprints.json")
    if options.items:
        write_items(options.work / "data", options.items)


if __name__ == "__main__":
    main()
