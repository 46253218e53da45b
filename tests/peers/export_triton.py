"""Serves an exported fusion as Triton would: its `model.py` under a stand-in for the module that Triton gives it.

usage: export_triton.py REPOSITORY --model NAME --request JSON [--request JSON …]

A request is what the `generate` endpoint takes, a value or list per input:

    {"input_ids": [1, 2, 3], "max_tokens": 64, "fusion.alpha": 0.5, "stream": true}

The key `outputs` asks for some outputs only; `cancel_after` cancels the request after as many responses. All requests
go into one call of `execute`. Prints one line of JSON, per request what its responses add up to, or its error:

    {"answers": [{"responses": 64, "output_ids": […], "text_output": "…", "finish_reason": "stop", …}, …]}
    {"answers": [{"responses": 1, "error": {"code": 3, "message": "…"}}]}

Every config.pbtxt of the repository is read by Triton's own schema; that of a graph must name the inputs and outputs that
the graph has.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import triton_python_backend_utils as pb_utils
from google.protobuf import json_format, text_format

DEADLINE_SECONDS = 300


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_configurations(repository: Path) -> dict[str, dict]:
    # The package around the schema imports gRPC; the schema itself needs protobuf alone.
    client = Path(importlib.util.find_spec("tritonclient").submodule_search_locations[0])
    schema = load(client / "grpc/model_config_pb2.py").ModelConfig
    configurations = {}
    for file in sorted(repository.glob("*/config.pbtxt")):
        message = text_format.Parse(file.read_text(encoding="utf-8"), schema())
        configuration = json_format.MessageToDict(message, preserving_proto_field_name=True)
        if configuration["name"] != file.parent.name:
            raise SystemExit(f"{file}: Triton wants the folder's name, not {configuration['name']}")
        configurations[configuration["name"]] = configuration
    return configurations


def check_graph(folder: Path, configuration: dict) -> None:
    """ONNX Runtime's backend refuses a configuration that tells of other tensors than the graph."""
    graph = onnx.load(folder / "1/model.onnx", load_external_data=False).graph
    optional = {tensor.name for tensor in graph.initializer}
    for side in ("input", "output"):
        told = {entry["name"]: entry for entry in configuration[side]}
        found = {value.name: value.type.tensor_type for value in getattr(graph, side)}
        if set(told) != set(found):
            raise SystemExit(f"{folder}: {side}s differ: {sorted(set(told) ^ set(found))}")
        for name, kind in found.items():
            dimensions = [str(dim.dim_value or -1) for dim in kind.shape.dim]
            dtype = "TYPE_" + {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16"}.get(
                (named := onnx.TensorProto.DataType.Name(kind.elem_type)), named
            )
            expected = {"name": name, "data_type": dtype, "dims": dimensions} | (
                {"optional": True} if name in optional else {}
            )
            if told[name] != expected:
                raise SystemExit(f"{folder}: {told[name]} for {expected}")


def request(body: dict, configuration: dict) -> pb_utils.InferenceRequest:
    types = {entry["name"]: entry["data_type"] for entry in configuration["input"]}
    cancel_after, outputs = body.pop("cancel_after", None), body.pop("outputs", None)
    tensors = []
    for name, value in body.items():
        if name not in types:
            raise SystemExit(f"{name}: no input of config.pbtxt; Triton refuses the request")
        values = value if isinstance(value, list) else [value]
        values = [v.encode("utf-8") if isinstance(v, str) else v for v in values]
        tensors.append(pb_utils.Tensor(name, np.array(values, pb_utils.DTYPES[types[name]])))
    output_types = {entry["name"]: entry["data_type"] for entry in configuration["output"]}
    sender = pb_utils.InferenceResponseSender(output_types, cancel_after)
    return pb_utils.InferenceRequest(tensors, outputs or list(output_types), sender)


def answer(sender: pb_utils.InferenceResponseSender) -> dict:
    """All responses to one request, joined."""
    joined: dict = {"responses": len(sender.responses)}
    for response in sender.responses:
        if response.has_error():
            joined["error"] = {"code": response.error().code(), "message": response.error().message()}
        for tensor in response.output_tensors():
            values = tensor.as_numpy().tolist()
            if tensor.as_numpy().dtype == np.object_:
                (text,) = values
                joined[tensor.name()] = joined.get(tensor.name(), "") + text.decode("utf-8")
            else:
                joined[tensor.name()] = joined.get(tensor.name(), []) + values
    return joined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--request", type=json.loads, action="append", required=True)
    args = parser.parse_args()

    configurations = read_configurations(args.repository)
    for name, configuration in configurations.items():
        if configuration["backend"] == "onnxruntime":
            check_graph(args.repository / name, configuration)

    configuration = configurations[args.model]
    model = load(args.repository / args.model / "1/model.py").TritonPythonModel()
    model.initialize({"model_config": json.dumps(configuration)})
    requests = [request(body, configuration) for body in args.request]
    if model.execute(requests) is not None:
        raise SystemExit("a decoupled model returns nothing")
    for tensor in [tensor for request in requests for tensor in request.inputs()]:
        tensor.release()
    senders = [request.get_response_sender() for request in requests]
    if not all(sender.finished.wait(DEADLINE_SECONDS) for sender in senders):
        raise SystemExit("a request got no last response")
    model.finalize()
    print(json.dumps({"answers": [answer(sender) for sender in senders]}))


if __name__ == "__main__":
    main()
