"""lm-eval, unmodified, against a server: are its scores those of our own runner?

usage: lm_eval_server.py http://127.0.0.1:8080 --run RUN [--model NAME …] [--task tasks/family_mc.yaml …] [--arg KEY=VALUE …]

`RUN` is a directory of `logitfuse run` with the same tasks (by name), on the same items, and with a variant for each model of the
server that has its name: `tasks/family.toml` has all of it. As many items are asked for as the run has.

For every model lm-eval (`--model local-completions`) runs in a process of its own. Compared are, item by item, the
log-likelihood of every choice (to `--near` nats) and whether it is the greedy one, or the generated text; and the mean of every
metric. lm-eval asks the server itself for tokens (/tokenizer_info, /tokenize), so that neither transformers nor a network is
needed, and sends token ids. Packages: requirements-lm-eval.txt.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import common
import yaml
from common import check

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TASKS = [HERE / "tasks/family_mc.yaml", HERE / "tasks/family_qa.yaml"]


class Evaluations:
    """What lm-eval makes of the tasks, a process for each model: most of a process's time goes into its start."""

    def __init__(self, args, tasks: list[Path], items: int):
        self.args, self.tasks, self.items = args, tasks, items
        self.done: dict[str, Path] = {}
        self.folder = tempfile.TemporaryDirectory()

    def of(self, model: str, task: str) -> tuple[dict, list[dict]]:
        """The table of results, and the samples in the order of items."""
        if model not in self.done:
            # Before it runs: what failed once is not tried for every task.
            self.done[model] = Path(self.folder.name) / str(len(self.done))
            self.evaluate(model, self.done[model])
        results = sorted(self.done[model].rglob("results_*.json"))
        samples = sorted(self.done[model].rglob(f"samples_{task}_*.jsonl"))
        check(
            len(results) == 1 and len(samples) == 1,
            f"lm-eval wrote {len(results)} results and {len(samples)} files of samples",
        )
        lines = [json.loads(line) for line in samples[0].read_text(encoding="utf-8").splitlines()]
        return json.loads(results[0].read_text(encoding="utf-8"))["results"][task], sorted(
            lines, key=lambda line: line["doc_id"]
        )

    def evaluate(self, model: str, out: Path) -> None:
        given = {
            "model": model, "base_url": f"{self.args.url}/v1/completions", "tokenizer_backend": "remote",
            "max_length": self.args.max_length, "num_concurrent": self.args.concurrency, "max_retries": 1, "timeout": 120,
        }  # fmt: skip
        given |= dict(pair.split("=", 1) for pair in self.args.arg)
        # For requests of tokens lm-eval takes the key from its arguments alone.
        if key := os.environ.get(common.KEY_VARIABLE):
            given.setdefault("auth_token", key)
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--limit", str(self.items)]
        command += ["--tasks", ",".join(str(task) for task in self.tasks)]
        command += ["--model_args", ",".join(f"{name}={value}" for name, value in given.items())]
        command += ["--output_path", str(out), "--log_samples"]
        offline = {
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": f"{self.folder.name}/cache",
            "TQDM_DISABLE": "1",
        }
        # Paths in the task files are relative to the repository.
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **offline}, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
        check(done.returncode == 0, f"lm-eval ends with {done.returncode}, see above")


def name_of(task: Path) -> str:
    return yaml.safe_load(task.read_text(encoding="utf-8"))["task"]


def ours(run: Path) -> tuple[dict, dict]:
    """Samples by variant and task, in the order of items, and means by variant, task and metric."""
    samples = defaultdict(list)
    for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        samples[sample["variant"], sample["task"]].append(sample)
    for of_cell in samples.values():
        of_cell.sort(key=lambda sample: sample["doc_index"])
    means = {}
    for metric in json.loads((run / "metrics.json").read_text(encoding="utf-8"))["metrics"]:
        means[metric["variant"], metric["task"], f"{metric['metric']},{metric['filter']}"] = metric["value"]
    return samples, means


def compare_items(args, ours: list[dict], theirs: list[dict]) -> str:
    check(len(ours) == len(theirs), f"{len(theirs)} items of lm-eval, {len(ours)} of ours")
    largest, compared = 0.0, 0
    for a, b in zip(ours, theirs):
        at = f"item {a['doc_id']}"
        check(a["doc"]["prompt"] == b["doc"]["prompt"], f"{at}: lm-eval has another item")
        check(
            len(a["responses"]) == len(b["filtered_resps"]) or len(b["resps"]) == 1,
            f"{at}: {len(b['resps'])} responses",
        )
        if "is_greedy" in a["responses"][0]:
            for response, (told,) in zip(a["responses"], b["resps"], strict=True):
                # lm-eval writes both as texts.
                log_prob, greedy = float(told[0]), str(told[1]) == "True"
                difference = abs(log_prob - response["log_prob"])
                check(
                    difference <= args.near,
                    f"{at}, {response['text']!r}: {log_prob} with lm-eval, {response['log_prob']} with our runner",
                )
                check(
                    greedy == response["is_greedy"], f"{at}, {response['text']!r}: is_greedy is {greedy} with lm-eval"
                )
                largest = max(largest, difference)
                compared += 1
        else:
            text, told = a["responses"][0]["text"], b["resps"][0][0]
            check(text == told, f"{at}: {told!r} with lm-eval, {text!r} with our runner")
            compared += 1
    if "is_greedy" in ours[0]["responses"][0]:
        return f"{compared} log-likelihoods, {largest:.1e} apart at most"
    return f"{compared} equal texts"


def compare_means(args, model: str, task: str, ours: dict, theirs: dict) -> str:
    told = []
    for (variant, of, metric), value in ours.items():
        if (variant, of) == (model, task):
            check(metric in theirs, f"lm-eval has no {metric}, but {', '.join(theirs)}")
            check(
                abs(value - theirs[metric]) <= 1e-9,
                f"{metric} is {theirs[metric]} with lm-eval, {value} with our runner",
            )
            told.append(f"{metric} {value:.4f}")
    check(told, f"the run has no metric of {model} and {task}")
    return "; ".join(told)


def compare(args, samples: dict, means: dict, evaluations: Evaluations, model: str, task: str) -> str:
    check(samples[model, task], f"the run has no samples of {model} and {task}")
    results, theirs = evaluations.of(model, task)
    said = compare_items(args, samples[model, task], theirs)
    return f"{compare_means(args, model, task, means, results)}; {said}"


def run() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("--run", type=Path, required=True, help="a directory of `logitfuse run`")
    parser.add_argument(
        "--model", action="append", help="instead of all of the server that the run has; may be repeated"
    )
    parser.add_argument("--task", type=Path, action="append", help="a task file of lm-eval; may be repeated")
    parser.add_argument("--near", type=float, default=1e-3, help="nats by which sums of log-probabilities may differ")
    parser.add_argument("--concurrency", type=int, default=4, help="lm-eval's num_concurrent")
    parser.add_argument("--max-length", type=int, default=512, help="the context of the models")
    parser.add_argument(
        "--arg", action="append", default=[], metavar="KEY=VALUE", help="a model argument of lm-eval; may be repeated"
    )
    args = parser.parse_args()
    args.url = args.url.rstrip("/")
    samples, means = ours(args.run)
    variants = {variant for variant, _ in samples}
    models = args.model or [name for name in common.model_names(args.url) if name in variants]
    check(models, f"the server has none of the run's variants: {', '.join(sorted(variants))}")
    tasks = {name_of(path): path.resolve() for path in args.task or TASKS}
    items = max((len(samples[model, task]) for model in models for task in tasks), default=0)
    check(items, f"the run has no samples of {', '.join(tasks)}")
    evaluations = Evaluations(args, list(tasks.values()), items)
    cells = [(model, task) for model in models for task in tasks]
    checks = [
        (f"{model} × {task}", functools.partial(compare, args, samples, means, evaluations, model, task))
        for model, task in cells
    ]
    return common.run_checks(checks)


if __name__ == "__main__":
    common.main(run)
