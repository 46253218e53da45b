"""What mergekit makes of small tensors: the answers that `logitfuse merge` is compared with.

usage: mergekit_golden.py > merge/tests/golden/mergekit.json

Needs `pip install mergekit==0.1.5`, which brings PyTorch and some gigabytes; that is why its answers are kept as a file and
tests read them. mergekit is called as its own planner calls it: inputs of an element type, arithmetic in float32
(`dtype: float32`), the result cast to the inputs' type (`out_dtype`).

One JSON object:
  mergekit, torch   versions
  inputs            per element type: "base" and "experts", numbers that the type holds exactly
  cases             per case: "dtype", "method", "parameters" as given to mergekit, "merged", and for DARE "masks", one text of
                    0 and 1 for each expert, as `torch.bernoulli` drew them
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import torch
from mergekit.merge_methods import registry
from mergekit.merge_methods.base import TensorGroup

SHAPE = (8, 12)
EXPERTS = 3
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WEIGHTS = [0.7, 0.4, -0.25]

CASES: list[tuple[str, dict]] = [
    ("linear", {"weight": [0.5, 0.3, 0.9]}),
    ("linear", {"weight": [0.5, -0.3, 0.9], "normalize": False}),
    ("task_arithmetic", {"weight": WEIGHTS}),
    ("task_arithmetic", {"weight": WEIGHTS, "lambda": 0.4, "normalize": True}),
    ("ties", {"weight": [1.0, 1.0, 1.0], "density": [0.2, 0.2, 0.2]}),
    ("ties", {"weight": WEIGHTS, "density": [0.5, 0.33, 0.9], "lambda": 1.3}),
    ("ties", {"weight": [1.0, 0.5, 2.0], "density": [0.5, 0.01, 1.0], "normalize": False, "rescale": True}),
    ("ties", {"weight": [1.0, 1.0, 1.0], "density": [1.0, 1.0, 1.0]}),
    ("ties", {"weight": [1.0, 1.0, 1.0], "density": [0.0, 0.4, 0.4]}),
    ("dare_linear", {"weight": WEIGHTS, "density": [0.5, 0.3, 0.9]}),
    ("dare_linear", {"weight": WEIGHTS, "density": [0.5, 0.3, 1.0], "rescale": False, "lambda": 0.6}),
    ("dare_ties", {"weight": [1.0, 0.5, 0.8], "density": [0.5, 0.3, 0.9]}),
    ("dare_ties", {"weight": [1.0, 0.5, 0.8], "density": [0.4, 0.4, 0.4], "normalize": True, "lambda": 2.0}),
    ("slerp", {"t": 0.0}),
    ("slerp", {"t": 0.3}),
    ("slerp", {"t": 1.0}),
]


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A base and experts beside it. Some elements did not change, some changed alike, some just oppositely.

    mergekit leaves to a sort which of several equal magnitudes stay. Only inputs without that question are taken.
    """
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        base = torch.randn(SHAPE, generator=generator) * 0.1
        experts = [base + torch.randn(SHAPE, generator=generator) * 0.1 for _ in range(EXPERTS)]
        experts[0][0] = base[0]
        # Around zero a delta is exact, and so is what cancels.
        base[1] = 0
        experts[1][1] = -experts[0][1]
        experts[2][1] = 0
        experts[1][2] = experts[0][2]
        base, experts = base.to(dtype), [expert.to(dtype) for expert in experts]
        if all(unambiguous(base, experts, case) for method, case in CASES if method == "ties"):
            return base, experts
    raise SystemExit("no inputs without equal magnitudes at a threshold")


def unambiguous(base: torch.Tensor, experts: list[torch.Tensor], case: dict) -> bool:
    for expert, density in zip(experts, case["density"], strict=True):
        keep = max(1, int(density * base.numel()))
        if 0 < density < 1:
            magnitudes = (expert.float() - base.float()).abs().flatten().sort(descending=True).values
            # Which zeros stay changes nothing.
            if magnitudes[keep - 1] == magnitudes[keep] != 0:
                return False
    return True


def merge(method: str, parameters: dict, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
    base, experts = inputs(dtype)
    if method == "linear":
        tensors, base_index = experts, None
    elif method == "slerp":
        tensors, base_index = [base, experts[0]], 0
    else:
        tensors, base_index = [base, *experts], 0
    masks: list[torch.Tensor] = []
    drawn = torch.bernoulli

    def recorded(*args: object, **kwargs: object) -> torch.Tensor:
        masks.append(drawn(*args, **kwargs))
        return masks[-1]

    torch.manual_seed(5)
    torch.bernoulli = recorded
    try:
        group = TensorGroup.from_tensors(tensors, base_index=base_index, name="weight")
        # mergekit's own names for inputs are places in this list; parameters of experts skip the base.
        (merged,) = registry.get(method)([group], parameters=parameters, dtype=torch.float32, out_dtype=dtype)
    finally:
        torch.bernoulli = drawn
    if method.startswith("dare"):
        # A density of one draws nothing and keeps everything.
        rest = iter(masks)
        masks = [torch.ones(SHAPE) if density >= 1 else next(rest) for density in parameters["density"]]
    return merged, masks


def numbers(tensor: torch.Tensor) -> list[float]:
    return tensor.float().flatten().tolist()


def main() -> None:
    result: dict = {"mergekit": version("mergekit"), "torch": torch.__version__, "shape": SHAPE, "inputs": {}, "cases": []}
    for name, dtype in TYPES.items():
        base, experts = inputs(dtype)
        result["inputs"][name] = {"base": numbers(base), "experts": [numbers(expert) for expert in experts]}
        for method, parameters in CASES:
            merged, masks = merge(method, parameters, dtype)
            case = {"dtype": name, "method": method, "parameters": parameters, "merged": numbers(merged)}
            if masks:
                case["masks"] = ["".join("01"[int(keep)] for keep in mask.flatten().tolist()) for mask in masks]
            result["cases"].append(case)
    head = {key: value for key, value in result.items() if key != "cases"}
    lines = ",\n".join(json.dumps(case) for case in result["cases"])
    sys.stdout.write(json.dumps(head)[:-1] + ',\n"cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
