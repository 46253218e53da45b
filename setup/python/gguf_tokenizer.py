"""Write tokenizer.json, tokenizer_config.json and special_tokens_map.json from a GGUF file.

usage: gguf_tokenizer.py FILE.gguf OUT_DIR

Covers byte-level BPE with the pre-tokenizer of SmolLM (every digit a token of its own). Follows what the original
Hugging Face repository holds, which a plain dump of the GGUF does not:
 * tokens that only pad the vocabulary up to the embedding's row count are dropped, so that no text maps to them;
 * control and user-defined tokens become `added_tokens`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gguf import GGUFReader

# llama.cpp's token types, `tokenizer.ggml.token_type`
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
ADDED_TOKEN_FLAGS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")


class Vocabulary:
    """The GGUF's token lists."""

    def __init__(self, fields: dict):
        self._fields = fields
        model, pre = self.get("model"), self.get("pre", "default")
        if (model, pre) != ("gpt2", "smollm"):
            raise SystemExit(f"tokenizer {model!r} with pre-tokenizer {pre!r} is not covered, only gpt2 with smollm is")
        self.tokens: list[str] = self.get("tokens")
        self.types: list[int] = self.get("token_type")
        self.merges: list[str] = self.get("merges")
        self.used = [i for i, kind in enumerate(self.types) if kind != UNUSED]

    def get(self, key: str, default=None):
        field = self._fields.get(f"tokenizer.ggml.{key}")
        return default if field is None else field.contents()

    def added_tokens(self) -> list[dict]:
        return [
            {
                "id": i,
                "content": self.tokens[i],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": self.types[i] == CONTROL,
            }
            for i in self.used
            if self.types[i] in (CONTROL, USER_DEFINED)
        ]

    def special_tokens(self) -> dict[str, str]:
        names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        ids = {ours: self.get(f"{theirs}_token_id") for ours, theirs in names.items()}
        return {name: self.tokens[int(i)] for name, i in ids.items() if i is not None}


def byte_level(trim_offsets: bool, use_regex: bool, add_prefix_space: bool = False) -> dict:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": trim_offsets,
        "use_regex": use_regex,
    }


def tokenizer_json(vocabulary: Vocabulary) -> dict:
    digits = {"type": "Digits", "individual_digits": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {vocabulary.tokens[i]: i for i in vocabulary.used},
        "merges": [merge.split(" ") for merge in vocabulary.merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level(trim_offsets=True, use_regex=True)]},
        "post_processor": None,
        "decoder": byte_level(trim_offsets=True, use_regex=True, add_prefix_space=True),
        "model": model,
    }


def tokenizer_config(vocabulary: Vocabulary, fields: dict) -> dict:
    added = {str(token["id"]): {flag: token[flag] for flag in ADDED_TOKEN_FLAGS} for token in vocabulary.added_tokens()}
    config = {
        "added_tokens_decoder": added,
        **vocabulary.special_tokens(),
        "add_bos_token": bool(vocabulary.get("add_bos_token", False)),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "GPT2Tokenizer",
    }
    if (template := fields.get("tokenizer.chat_template")) is not None:
        config["chat_template"] = template.contents()
    config["model_max_length"] = int(fields["llama.context_length"].contents())
    return config


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    gguf, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    fields = GGUFReader(gguf).fields
    vocabulary = Vocabulary(fields)

    def write(name: str, value: dict, indent: int | None = 2) -> None:
        (out / name).write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")

    write("tokenizer.json", tokenizer_json(vocabulary), indent=None)
    write("special_tokens_map.json", vocabulary.special_tokens())
    write("tokenizer_config.json", tokenizer_config(vocabulary, fields))


if __name__ == "__main__":
    main()
