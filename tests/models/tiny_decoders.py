"""Writes tiny decoders with every oddity that real model folders have, and some that are damaged.

usage: tiny_decoders.py OUT_DIR

Every sub-folder is a whole model folder. Weights are random and the same each time, so are the bytes. `OUT_DIR/broken`
holds what a loader must refuse, `OUT_DIR/odd` what loads and then misbehaves. Whatever is written is then checked (`decoder_check.py`): every model loads, tokens
fed in pieces give what they give at once, and forms of the same mathematics agree.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import decoder_check
import decoder_graph as graph
import odd_models
import tiny_tokenizer
from decoder_graph import Form

BOS, EOS, END_OF_TURN = 1, 2, 4
WINDOW = 6


@dataclass(frozen=True)
class Folder:
    """A model folder: ONNX files by their path in it, and the configuration around them."""

    files: dict[str, Form]
    layout: str
    """`genai` or `hugging_face`."""
    eos: int | list[int] = EOS
    tokenizer: str | None = None
    """`usual`, or `swapped`: the same ids for other strings."""


def plain(file: str = "model.onnx", tokenizer: str | None = None, **form) -> Folder:
    return Folder({file: Form(**form)}, "hugging_face", tokenizer=tokenizer)


def gqa(eos: int | list[int] = EOS, tokenizer: str | None = None, **form) -> Folder:
    return Folder({"model.onnx": Form(attention="gqa", **form)}, "genai", eos, tokenizer)


FOLDERS = {
    "plain_fp32": plain(tokenizer="usual"),
    "plain_fp16": plain(dtype=np.float16),
    "plain_position_ids": plain(position_ids=True),
    "plain_learned_no_mask": plain(learned_positions=True, mask=False),
    "plain_sliding_window": plain(window=WINDOW),
    "plain_no_cache": plain(cache="none"),
    "plain_joint_cache": plain(cache="joint"),
    "plain_merged": plain("decoder_model_merged.onnx", merged=True),
    "plain_int32_ids": plain(integers=np.int32),
    # The name of the dimension says nothing, so that only a trial shows that one row comes out.
    "plain_last_row": plain(rows="last", rows_dim="logits_rows"),
    "gqa_fp32": gqa(tokenizer="usual"),
    "gqa_fp16": gqa(dtype=np.float16),
    "gqa_position_ids": gqa(position_ids=True),
    "gqa_int8": gqa(weight_bits=8, external="model.onnx.data"),
    "gqa_symbolic_head": gqa(head_dim="kv_cache_dim"),
    "gqa_padded_vocab": gqa(logits_width=128, tokenizer="usual"),
    "gqa_two_eos": gqa(eos=[EOS, END_OF_TURN], tokenizer="swapped"),
    "gqa_sliding_window": gqa(window=WINDOW),
    "gqa_last_row": gqa(rows="last", rows_dim=1),
    "gqa_chosen_rows": gqa(rows="chosen", rows_dim="logits_rows"),
    # Other weights, so that there is something to fuse.
    "gqa_expert": gqa(tokenizer="usual", seed=1),
    "gqa_anti": gqa(tokenizer="usual", seed=2),
    "genai_external": gqa(external="model.onnx.data"),
    "hf_variants": Folder(
        {
            "onnx/model.onnx": Form(),
            "onnx/model_fp16.onnx": Form(dtype=np.float16),
            "onnx/model_q4.onnx": Form(weight_bits=4),
            "onnx/model_int8.onnx": Form(weight_bits=8, external="model_int8.onnx_data"),
        },
        "hugging_face",
        tokenizer="usual",
    ),
}


def genai_config(form: Form, eos: int | list[int]) -> dict:
    inputs = {"input_ids": "input_ids", "attention_mask": "attention_mask"}
    if form.position_ids:
        inputs["position_ids"] = "position_ids"
    inputs |= {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    outputs = {
        "logits": "logits",
        "present_key_names": "present.%d.key",
        "present_value_names": "present.%d.value",
    }
    decoder = {
        "session_options": {"provider_options": []},
        "filename": "model.onnx",
        "head_size": graph.HEAD,
        "hidden_size": graph.HIDDEN,
        "inputs": inputs,
        "outputs": outputs,
        "num_attention_heads": graph.HEADS,
        "num_hidden_layers": graph.LAYERS,
        "num_key_value_heads": graph.KV_HEADS,
    }
    if form.window:
        decoder["sliding_window"] = {"window_size": form.window, "slide_key_value_cache": False, "slide_inputs": False}
    ids = {"bos_token_id": BOS, "eos_token_id": eos, "pad_token_id": EOS}
    sizes = {"context_length": graph.CONTEXT, "vocab_size": form.logits_width}
    return {
        "model": {**ids, **sizes, "decoder": decoder, "type": "llama"},
        "search": {"max_length": graph.CONTEXT, "past_present_share_buffer": True},
    }


def hugging_face_config(form: Form, eos: int | list[int]) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": BOS,
        "eos_token_id": eos,
        "hidden_size": graph.HIDDEN,
        "intermediate_size": graph.FEED_FORWARD,
        "num_hidden_layers": graph.LAYERS,
        "num_attention_heads": graph.HEADS,
        "num_key_value_heads": graph.KV_HEADS,
        "head_dim": graph.HEAD,
        "max_position_embeddings": graph.CONTEXT,
        "rms_norm_eps": graph.EPSILON,
        "rope_theta": graph.ROPE_THETA,
        "sliding_window": form.window,
        "use_cache": form.cache != "none",
        "vocab_size": form.logits_width,
    }


def write_folder(path: Path, folder: Folder) -> None:
    path.mkdir(parents=True)
    for file, form in folder.files.items():
        graph.save(graph.decoder(form), path / file, form.external)
    form = next(iter(folder.files.values()))
    if folder.layout == "genai":
        write_json(path / "genai_config.json", genai_config(form, folder.eos))
    else:
        write_json(path / "config.json", hugging_face_config(form, folder.eos))
        write_json(path / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": folder.eos})
    if folder.tokenizer:
        tiny_tokenizer.write(path, swapped_case=folder.tokenizer == "swapped")


def write_broken(path: Path) -> None:
    """What a loader must refuse, each for one reason."""
    (path / "empty").mkdir(parents=True)

    write_folder(path / "truncated", FOLDERS["plain_fp32"])
    cut(path / "truncated/model.onnx")

    graph.save(addition(), path / "not_a_decoder/model.onnx")

    write_folder(path / "missing_external", FOLDERS["genai_external"])
    (path / "missing_external/model.onnx.data").unlink()

    write_folder(path / "short_external", FOLDERS["genai_external"])
    cut(path / "short_external/model.onnx.data")

    write_folder(path / "corrupt_config", FOLDERS["gqa_fp32"])
    cut(path / "corrupt_config/genai_config.json")

    write_folder(path / "unknown_input", plain(token_types=True))


def write_odd(path: Path) -> None:
    """What loads and then misbehaves."""
    for name, model in odd_models.MODELS.items():
        (path / name).mkdir(parents=True)
        onnx.save(model(), path / name / "model.onnx")
        write_json(path / name / "config.json", {"eos_token_id": EOS, "max_position_embeddings": graph.CONTEXT})
        tiny_tokenizer.write(path / name, swapped_case=False)


def cut(file: Path) -> None:
    """Keeps the first half, as an interrupted download does."""
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def addition():
    a, b, total = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b", "sum"))
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"])]
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(helper.make_graph(nodes, "addition", [a, b], [total]), opset_imports=opsets, ir_version=9)


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for name, folder in FOLDERS.items():
        write_folder(out / name, folder)
    write_broken(out / "broken")
    write_odd(out / "odd")
    folders = ((out / name, folder) for name, folder in FOLDERS.items())
    decoder_check.check({path / file: form for path, folder in folders for file, form in folder.files.items()})


if __name__ == "__main__":
    main()
