"""A tokenizer of 97 tokens, written by hand: English letters, a few merges, the marks of ChatML."""

from __future__ import annotations

import json
import string
from pathlib import Path

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
SPACE, NEWLINE = "Ġ", "Ċ"
"""How byte-level vocabularies write the two."""
PUNCTUATION = ".,:;!?'\"-()|"
MERGES = [
    ("t", "h"), ("th", "e"), (SPACE, "t"), (SPACE, "a"), ("h", "e"), ("i", "n"), ("e", "r"), ("a", "n"),
    (SPACE, "the"), ("o", "n"), ("r", "e"), (SPACE, "s"), ("n", "d"), ("u", "s"), ("s", "e"), ("r", "u"),
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(folder: Path, swapped_case: bool) -> None:
    """Writes tokenizer.json and tokenizer_config.json. `swapped_case` gives the letters each other's ids: a
    vocabulary of the same size that means something else.
    """
    letters = string.ascii_uppercase + string.ascii_lowercase if swapped_case else string.ascii_letters
    merged = ["".join(pair) for pair in MERGES]
    tokens = [*SPECIAL, SPACE, NEWLINE, *letters, *string.digits, *PUNCTUATION, *merged]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    assert len(vocabulary) == 97, len(vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **flags} for token in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in MERGES],
        },
    }
    config = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": False,
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": 128,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, value in {"tokenizer.json": tokenizer, "tokenizer_config.json": config}.items():
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
