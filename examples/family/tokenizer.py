"""The family's tokenizer: byte-level BPE trained on the corpus, digits one by one, and one special token."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END = "<|end|>"
"""Stands between documents: it begins every prompt and ends every answer."""


def train(documents: Iterable[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(documents, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, end)])
    return tokenizer


def load(data: Path) -> Tokenizer:
    return Tokenizer.from_file(str(data / "tokenizer.json"))


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Without the special token at the beginning."""
    return tokenizer.encode(text, add_special_tokens=False).ids
