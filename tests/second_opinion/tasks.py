"""What lm-eval makes of small tasks with a real model: the answers that our tasks are compared with.

usage: tasks.py MODEL_FOLDER OUT.json        (packages: tasks-requirements.txt)

lm-eval does everything but the model: it reads the task file, shows demonstrations, splits contexts from continuations, cuts
windows, filters, scores, averages. The model is a plain ONNX Runtime session that is handed token ids, one sequence at a
time, without a cache; log-probabilities are summed in float64. The items are made here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima",
    "Norway": "Oslo", "Austria": "Vienna", "Brazil": "Brasília", "Colombia": "Bogotá", "Kenya": "Nairobi",
    "Iceland": "Reykjavík",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "early": "late", "full": "empty", "open": "closed", "fast": "slow", "light": "dark",
    "happy": "sad", "rich": "poor", "young": "old", "wet": "dry", "hard": "soft",
}  # fmt: skip
SOUNDS = {
    "dog": "It barks.", "cat": "It meows.", "cow": "It moos, loud and long.", "duck": "It quacks.", "bee": "It buzzes",
    "lion": "It roars at night.", "wolf": "It howls.", "frog": "It croaks in the pond.", "horse": "It neighs.",
    "sheep": "It bleats.", "snake": "It hisses.", "owl": "It hoots, and nobody knows why.",
}  # fmt: skip


def choices() -> list[dict]:
    """Questions with four choices of different lengths, some with letters of several bytes."""
    random = np.random.default_rng(1)
    items = []
    for ask, table in [
        ("What is the capital of {}?", CAPITALS),
        ("What is the opposite of {}?", OPPOSITES),
        ("What does a {} do?", SOUNDS),
    ]:
        for key, right in table.items():
            others = [value for value in table.values() if value != right]
            options = [right, *(str(other) for other in random.choice(others, 3, replace=False))]
            order = random.permutation(4)
            items.append(
                {
                    "question": ask.format(key),
                    "options": [options[i] for i in order],
                    "answer": "ABCD"[list(order).index(0)],
                }
            )
    for _ in range(12):
        a, b = (int(x) for x in random.integers(1, 50, 2))
        options = [str(a + b), str(a + b + 1), str(a - b), f"more than {a + b}"]
        order = random.permutation(4)
        items.append(
            {
                "question": f"What is {a} + {b}?",
                "options": [options[i] for i in order],
                "answer": "ABCD"[list(order).index(0)],
            }
        )
    return items


def sums(seed: int, count: int) -> list[dict]:
    random = np.random.default_rng(seed)
    items = []
    for _ in range(count):
        a, b = (int(x) for x in random.integers(1, 30, 2))
        items.append({"question": f"Tom has {a} apples and gets {b}. How many has he?", "answer": f"{a} + {b} = {a + b}"})
    return items


def sentences() -> list[dict]:
    texts = [
        "The sun rises in the east and sets in the west.",
        "She opened the door and walked into the room.",
        "He could not see because it was too dark.",
        "They went to the beach to swim in the sea.",
        "A year has twelve months and a week has seven days.",
        "My favourite colour is blue, but hers is green.",
        "Ein Hund und eine Katze leben im Haus.",
        "The cat sat on the mat and looked at the dog.",
    ]
    return [{"text": text} for text in texts]


def pages() -> list[dict]:
    story = " ".join(item["text"] for item in sentences())
    return [
        {"page": story},
        {"page": "Once upon a time.\n\nThere was a king  who had three sons, and  a garden."},
        {"page": story + "\n" + story.upper()},
        {"page": "x"},
    ]


LETTERS = "{{ question }}\n{% for option in options %}{{ 'ABCD'[loop.index0] }}. {{ option }}\n{% endfor %}Answer:"
TASKS = [
    (
        {
            "task": "choices",
            "output_type": "multiple_choice",
            "doc_to_text": "Question: {{ question }}\nAnswer:",
            "doc_to_choice": "options",
            "doc_to_target": "{{ ['A', 'B', 'C', 'D'].index(answer) }}",
            "metric_list": [{"metric": m} for m in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")],
        },
        choices(),
        None,
    ),
    (
        {
            "task": "letters",
            "output_type": "multiple_choice",
            "description": "Answer with a letter.\n\n",
            "doc_to_text": LETTERS,
            "doc_to_choice": ["A", "B", "C", "D"],
            "doc_to_target": "answer",
            # Named, or lm-eval would show items to themselves.
            "fewshot_split": "test",
            "num_fewshot": 3,
        },
        choices()[::3],
        None,
    ),
    (
        {
            "task": "spaces",
            "output_type": "multiple_choice",
            "doc_to_text": "The answer to '{{ question.strip() }}' is ",
            "target_delimiter": "",
            "doc_to_choice": "{{ options }}",
            "doc_to_target": "{{ ['A', 'B', 'C', 'D'].index(answer) }}",
        },
        choices()[1::8],
        None,
    ),
    (
        {
            "task": "last_word",
            "output_type": "loglikelihood",
            "doc_to_text": "{{ text.split(' ')[:-1] | join(' ') }}",
            "doc_to_target": "{{ ' ' + text.split(' ')[-1] }}",
        },
        sentences(),
        None,
    ),
    (
        {
            "task": "pages",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{ page }}",
        },
        pages(),
        None,
    ),
    (
        {
            "task": "sums",
            "output_type": "generate_until",
            "doc_to_text": "Question: {{ question }}\nAnswer:",
            "doc_to_target": "{{ answer.split('= ')[-1] }}",
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": 2,
            "generation_kwargs": {"until": ["Question:", "\n\n"], "max_gen_toks": 20, "do_sample": False},
            "filter_list": [
                {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "^\\s*(-?[0-9]+)"}, {"function": "take_first"}]},
                {
                    "name": "flexible",
                    "filter": [
                        {"function": "regex", "group_select": -1, "regex_pattern": "(-?[0-9]+)"},
                        {"function": "take_first"},
                    ],
                },
            ],
            "metric_list": [{"metric": "exact_match", "ignore_case": True, "regexes_to_ignore": [","]}],
        },
        sums(2, 40),
        sums(3, 4),
    ),
]
# So that a page has several windows.
ROLLING_LENGTH = 64


class PlainOnnx(TemplateLM):
    """A decoder in plain ONNX Runtime behind lm-eval's interface."""

    backend = "causal"

    def __init__(self, folder: Path):
        super().__init__()
        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        ends = config["eos_token_id"]
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.head_size = config["decoder"]["head_size"]
        self.session = ort.InferenceSession(folder / config["decoder"]["filename"], providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.prefix_id = self.tokenizer.token_to_id(named.get("bos_token") or named["eos_token"])

    @property
    def eot_token_id(self) -> int:
        return min(self.ends)

    @property
    def prefix_token_id(self) -> int:
        return self.prefix_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs) -> list[int]:
        return self.tokenizer.encode(string, add_special_tokens=False).ids

    def log_probs(self, ids: list[int], rows: int) -> np.ndarray:
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        }
        for spec in self.session.get_inputs():
            if spec.name.startswith("past_key_values."):
                feed[spec.name] = np.zeros((1, spec.shape[1], 0, self.head_size), np.float32)
        names = {spec.name for spec in self.session.get_inputs()}
        feed = {name: value for name, value in feed.items() if name in names}
        logits = self.session.run(["logits"], feed)[0][0, -rows:].astype(np.float64)
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))

    def _loglikelihood_tokens(self, requests, **kwargs) -> list[tuple[float, bool]]:
        answers = []
        for _, context, continuation in requests:
            rows = self.log_probs(context + continuation[:-1], len(continuation))
            chosen = rows[np.arange(len(continuation)), continuation]
            answers.append((float(chosen.sum()), bool((rows.argmax(-1) == continuation).all())))
        return answers

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        answers = []
        for request in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, ROLLING_LENGTH, context_len=1
            )
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            answers.append(sum(log_prob for log_prob, _ in self._loglikelihood_tokens(pairs)))
        return answers

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        answers = []
        for request in requests:
            context, kwargs = request.args
            prompt, generated = self.tok_encode(context), []
            while len(generated) < kwargs["max_gen_toks"]:
                token = int(self.log_probs(prompt + generated, 1)[0].argmax())
                if token in self.ends:
                    break
                generated.append(token)
                text = self.tokenizer.decode(generated)
                if any(stop in text for stop in kwargs["until"]):
                    break
            text = self.tokenizer.decode(generated)
            for stop in kwargs["until"]:
                text = text.split(stop)[0]
            answers.append(text)
        return answers


def evaluated(model: PlainOnnx, config: dict, items: list[dict], shots: list[dict] | None, folder: Path) -> dict:
    name = config["task"]
    files = {"test": items} | ({"train": shots} if shots else {})
    paths = {}
    for split, rows in files.items():
        paths[split] = str(folder / f"{name}.{split}.jsonl")
        Path(paths[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {**config, "test_split": "test"}
    task = {**config, "dataset_path": "json", "dataset_kwargs": {"data_files": paths}}
    result = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, cache_requests=False)
    samples: dict[int, dict] = {}
    for sample in result["samples"][name]:
        entry = samples.setdefault(sample["doc_id"], {"responses": [], "filtered": {}, "metrics": {}})
        # As lists: of a score (log-probability, whether it is greedy), of a generation the text.
        entry["responses"] = [response[0] for response in sample["resps"]]
        if config["output_type"] == "generate_until":
            entry["filtered"][sample["filter"]] = sample["filtered_resps"][0]
        for metric in sample["metrics"]:
            entry["metrics"][f"{metric},{sample['filter']}"] = sample[metric]
    return {
        "yaml": yaml.safe_dump(config, allow_unicode=True, sort_keys=False),
        "items": items,
        "shots": shots or [],
        "samples": [samples[i] for i in sorted(samples)],
        "results": {key: value for key, value in result["results"][name].items() if isinstance(value, float)},
    }


def main() -> None:
    model = PlainOnnx(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        tasks = [evaluated(model, *task, Path(folder)) for task in TASKS]
    lines = ",\n".join(json.dumps(task, ensure_ascii=False) for task in tasks)
    Path(sys.argv[2]).write_text(f'{{"rolling_length": {ROLLING_LENGTH}, "tasks": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
