"""Quantised models as others make them, merged by `logitfuse merge`, run by ONNX Runtime.

usage: quantised_merge.py LOGITFUSE FOLDER

For every scheme three models are made from random matrices: by `onnxruntime.quantization` where that makes the scheme, else by hand. Each
yields its weights as ONNX Runtime reads them: as the product with an identity matrix, or by looking up every row. A base and two
experts are merged by task arithmetic, and what the merged model yields is compared with numpy's arithmetic on what the three yield.

Prints one line of JSON: per scheme "error", the root of the mean squared difference relative to numpy's result, and "reported", the
error of requantisation that `logitfuse merge` tells.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

MICROSOFT = "com.microsoft"
SIZE, BLOCK = 96, 32
"""Three blocks: packed zero points of four bits have rows with a gap."""
PARENTS = ("base", "a", "b")
WEIGHTS = {"a": 0.6, "b": -0.3}


def model(nodes: list, constants: dict[str, np.ndarray | TensorProto], given: str) -> onnx.ModelProto:
    """A graph from `x`, an identity matrix, or `ids`, all rows, to `y`."""
    kinds = {"x": (TensorProto.FLOAT, ["n", None]), "ids": (TensorProto.INT64, ["n"])}
    tensors = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes, "weights", [helper.make_tensor_value_info(given, *kinds[given])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None])], tensors,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def blocks(matrix: np.ndarray, bits: int, asymmetric: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes `[rows, columns]`, scales and zero points `[rows, blocks]`."""
    parts = matrix.reshape(len(matrix), -1, BLOCK)
    top = (1 << bits) - 1
    if asymmetric:
        low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
        scales = (high - low) / top
        zeros = np.rint(-low / scales)
    else:
        scales = np.abs(parts).max(-1) / (top // 2)
        zeros = np.full(scales.shape, 1 << (bits - 1))
    codes = np.clip(np.rint(parts / scales[..., None] + zeros[..., None]), 0, top)
    return codes.reshape(matrix.shape).astype(np.uint8), scales.astype(np.float32), zeros.astype(np.uint8)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], -1)
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def matmul_nbits(bits: int, asymmetric: bool):
    def make(matrix: np.ndarray) -> onnx.ModelProto:
        codes, scales, zeros = blocks(matrix, bits, asymmetric)
        constants = {"q": packed(codes, bits).reshape(SIZE, -1, BLOCK * bits // 8), "s": scales.reshape(-1)}
        if asymmetric:
            constants["z"] = packed(zeros, bits).reshape(-1)
        node = helper.make_node(
            "MatMulNBits", ["x", *constants], ["y"], domain=MICROSOFT, K=SIZE, N=SIZE, bits=bits, block_size=BLOCK
        )
        return model([node], constants, "x")

    return make


def gather_block_quantized(bits: int, asymmetric: bool):
    def make(matrix: np.ndarray) -> onnx.ModelProto:
        codes, scales, zeros = blocks(matrix, bits, asymmetric)
        constants = {"q": packed(codes, bits), "s": scales}
        if asymmetric:
            constants["z"] = packed(zeros, bits)
        inputs = ["q", "ids", *list(constants)[1:]]
        node = helper.make_node(
            "GatherBlockQuantized", inputs, ["y"], domain=MICROSOFT, bits=bits, block_size=BLOCK, gather_axis=0, quantize_axis=1
        )
        return model([node], constants, "ids")

    return make


def gather_typed(kind: int):
    """Four bits as a type of ONNX's own, without zero points."""

    def make(matrix: np.ndarray) -> onnx.ModelProto:
        codes, scales, _ = blocks(matrix, 4, False)
        values = codes.astype(np.int8) - 8 if kind == TensorProto.INT4 else codes.astype(np.int8)
        q = helper.make_tensor("q", kind, matrix.shape, values.flatten().tolist())
        node = helper.make_node(
            "GatherBlockQuantized", ["q", "ids", "s"], ["y"], domain=MICROSOFT, block_size=BLOCK, gather_axis=0, quantize_axis=1
        )
        return model([node], {"q": q, "s": scales}, "ids")

    return make


def dequantize_linear(axis: int | None, block: int):
    def make(matrix: np.ndarray) -> onnx.ModelProto:
        if block:
            scales = np.abs(matrix.reshape(-1, block, matrix.shape[1])).max(1) / 127
            steps = np.repeat(scales, block, 0)
        elif axis is None:
            steps = scales = np.array(np.abs(matrix).max() / 127)
        else:
            scales = np.abs(matrix).max(1 - axis) / 127
            steps = np.expand_dims(scales, 1 - axis)
        constants = {"q": np.rint(matrix / steps).astype(np.int8), "s": scales.astype(np.float32)}
        attributes = {} if axis is None else {"axis": axis} | ({"block_size": block} if block else {})
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "s"], ["w"], **attributes), helper.make_node("MatMul", ["x", "w"], ["y"])
        ]
        return model(nodes, constants, "x")

    return make


def by_onnxruntime(folder: Path, op: str, kind: QuantType, per_channel: bool):
    """`MatMulInteger` with two multiplications, or `Gather` and `DequantizeLinear`, as `quantize_dynamic` writes them."""

    def make(matrix: np.ndarray) -> onnx.ModelProto:
        node = helper.make_node(*(("MatMul", ["x", "w"]) if op == "MatMul" else ("Gather", ["w", "ids"])), ["y"])
        plain, quantised = folder / "plain.onnx", folder / "quantised.onnx"
        onnx.save(model([node], {"w": matrix}, "x" if op == "MatMul" else "ids"), plain)
        quantize_dynamic(plain, quantised, [op], weight_type=kind, per_channel=per_channel)
        return onnx.load(quantised)

    return make


def weights(path: Path) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    # An identity is exact where activations are quantised, too: its numbers become 0 and 255.
    feeds = {"x": np.eye(SIZE, dtype=np.float32), "ids": np.arange(SIZE)}
    return session.run(["y"], {given.name: feeds[given.name]})[0]


def schemes(folder: Path) -> dict[str, Callable[[np.ndarray], onnx.ModelProto]]:
    """Per scheme what makes a model of a matrix."""
    return {
        "MatMulNBits 8": matmul_nbits(8, False),
        "MatMulNBits 4": matmul_nbits(4, False),
        "MatMulNBits 4 asymmetric": matmul_nbits(4, True),
        "GatherBlockQuantized 8": gather_block_quantized(8, False),
        "GatherBlockQuantized 4": gather_block_quantized(4, False),
        "GatherBlockQuantized 4 asymmetric": gather_block_quantized(4, True),
        "GatherBlockQuantized int4": gather_typed(TensorProto.INT4),
        "GatherBlockQuantized uint4": gather_typed(TensorProto.UINT4),
        "DequantizeLinear": dequantize_linear(None, 0),
        "DequantizeLinear rows": dequantize_linear(0, 0),
        "DequantizeLinear columns": dequantize_linear(1, 0),
        "DequantizeLinear blocks": dequantize_linear(0, BLOCK),
        "MatMulInteger uint8": by_onnxruntime(folder, "MatMul", QuantType.QUInt8, False),
        "MatMulInteger int8 columns": by_onnxruntime(folder, "MatMul", QuantType.QInt8, True),
        "Gather uint8": by_onnxruntime(folder, "Gather", QuantType.QUInt8, False),
    }


def main() -> None:
    logitfuse, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    result = {}
    for number, (name, make) in enumerate(schemes(folder).items()):
        generator = np.random.default_rng(number)
        place = folder / name.replace(" ", "-")
        base = generator.normal(0, 0.05, (SIZE, SIZE)).astype(np.float32)
        for parent in PARENTS:
            (place / parent).mkdir(parents=True)
            matrix = base if parent == "base" else base + generator.normal(0, 0.02, base.shape).astype(np.float32)
            onnx.save(make(matrix), place / parent / "model.onnx")
        experts = "".join(f'[[expert]]\nmodel = "{expert}"\nweight = {weight}\n' for expert, weight in WEIGHTS.items())
        (place / "recipe.toml").write_text('method = "task_arithmetic"\n[base]\nmodel = "base"\n' + experts)
        command = [logitfuse, "merge", place / "recipe.toml", "--output", place / "merged", "--quiet", "--format", "json"]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        read = {parent: weights(place / parent / "model.onnx").astype(np.float64) for parent in (*PARENTS, "merged")}
        wanted = read["base"] + sum(weight * (read[expert] - read["base"]) for expert, weight in WEIGHTS.items())
        error = float(np.sqrt(((read["merged"] - wanted) ** 2).sum() / (wanted**2).sum()))
        result[name] = {"error": error, "reported": told["requantised"]["relative_rms"]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
