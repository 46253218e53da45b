"""A stand-in for the module that Triton's Python backend gives its models, after the documented interface.

https://github.com/triton-inference-server/python_backend (README.md, src/pb_stub.cc). It has what an exported `model.py`
may use, and is as strict as Triton where that can be told: a response after the last one, an output that the configuration
does not have or that is of another type, and a tensor that is read after `execute` returned are errors.
"""

from __future__ import annotations

import threading

import numpy as np

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1

DTYPES = {
    "TYPE_BOOL": np.bool_,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP32": np.float32,
    "TYPE_STRING": np.object_,
}


class TritonModelException(Exception):
    pass


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL):
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class Tensor:
    def __init__(self, name: str, values: np.ndarray):
        if not isinstance(values, np.ndarray):
            raise TypeError(f"{name}: an array is expected, not {type(values)}")
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        if self._values is None:
            raise RuntimeError(f"{self._name}: the memory of an input is Triton's again once `execute` has returned")
        return self._values

    def release(self) -> None:
        """What Triton does after `execute`: the memory gets other contents."""
        self._values[...] = 0 if self._values.dtype != np.object_ else b"released"
        self._values = None


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None):
        self._outputs, self._error = output_tensors or [], error

    def output_tensors(self) -> list[Tensor]:
        return self._outputs

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class InferenceResponseSender:
    """Collects what Triton would send. `finished` is set by the last response."""

    def __init__(self, output_types: dict[str, str], cancel_after: int | None):
        self.responses: list[InferenceResponse] = []
        self.finished = threading.Event()
        self._types, self._cancel_after = output_types, cancel_after

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if self.finished.is_set():
            raise RuntimeError("a response after the one with TRITONSERVER_RESPONSE_COMPLETE_FINAL")
        for tensor in response.output_tensors() if response else []:
            kind = self._types.get(tensor.name())
            if kind is None:
                raise RuntimeError(f"{tensor.name()}: no output of config.pbtxt")
            if tensor.as_numpy().dtype != DTYPES[kind]:
                raise RuntimeError(f"{tensor.name()}: {kind} is expected, not {tensor.as_numpy().dtype}")
        if response:
            self.responses.append(response)
        if flags & TRITONSERVER_RESPONSE_COMPLETE_FINAL:
            self.finished.set()

    def is_cancelled(self) -> bool:
        return self._cancel_after is not None and len(self.responses) >= self._cancel_after


class InferenceRequest:
    def __init__(self, inputs: list[Tensor], requested_output_names: list[str], sender: InferenceResponseSender):
        self._inputs, self._outputs, self._sender = inputs, requested_output_names, sender

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def requested_output_names(self) -> list[str]:
        return self._outputs

    def get_response_sender(self) -> InferenceResponseSender:
        return self._sender

    def is_cancelled(self) -> bool:
        return self._sender.is_cancelled()


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def using_decoupled_model_transaction_policy(model_config: dict) -> bool:
    return model_config.get("model_transaction_policy", {}).get("decoupled", False)
