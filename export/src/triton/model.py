"""Serves an exported fusion in Triton's Python backend: decodes with onnxruntime-genai, since Triton has no decode loop.

Written by `logitfuse export --target triton`. It needs `pip install onnxruntime-genai tokenizers` in the backend's Python,
and the folder `genai` beside this file. Nothing of logitfuse runs here. Text goes through `tokenizers` rather than genai's own
tokenizer, because that one leaves out the tokens that a model expects at the beginning of a text.

A request gives `text_input` or `input_ids`; everything else is optional:

    input                 type      default   meaning
    text_input            STRING              the prompt, tokenized as it stands: no chat template
    input_ids             INT64 [n]           the prompt as token ids
    max_tokens            INT32     128       tokens to generate at most
    temperature           FP32      0         0 chooses the most probable token; else samples
    top_k                 INT32     0         samples from the k most probable tokens; 0 from all
    top_p                 FP32      1         samples from the most probable tokens with this probability together
    repetition_penalty    FP32      1         divides scores of tokens that occurred
    seed                  INT64     random    makes sampling repeatable
    stream                BOOL      false     a response per token with what is new; else one response with all
    fusion.NAME           FP32                a parameter of the fusion, for this request alone; the default is the
                                              entry of this name under `parameters` of config.pbtxt

Responses have `text_output`, `output_ids`, `finish_reason` ("stop": an end token, which is the last of `output_ids`;
"length": `max_tokens`; "" while more is to come) and `trace.NAME`, a number per token that the fusion reports of itself.

A request that is wrong or fails gets an error of its own; others go on. Requests are decoded side by side, as many as
`concurrency` under `parameters` of config.pbtxt says; more wait in Triton's queue, where its limits and time-outs apply.
"""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

FUSION, TRACE = "fusion.", "trace."
MAX_TOKENS = 128


class BadRequest(ValueError):
    """What the client can mend."""


class Cancelled(Exception):
    """The client no longer waits."""


@dataclass
class Job:
    """A request as Python values: Triton's tensors do not outlive `execute`."""

    sender: object
    outputs: set
    stream: bool
    prompt: list
    search: dict
    parameters: dict


class Replies:
    """Sends what was generated: token by token, or all of it at the end."""

    def __init__(self, job, traces):
        self.job, self.ids, self.text = job, [], ""
        self.traces = {name: [] for name in traces if name in job.outputs}

    def token(self, token, text, traces):
        self.ids.append(token)
        self.text += text
        for name, value in traces.items():
            self.traces[name].append(value)

    def send(self, finish_reason):
        """Sends what is new. The last response has a reason."""
        values = {
            "text_output": np.array([self.text.encode("utf-8")], np.object_),
            "output_ids": np.array(self.ids, np.int64),
            "finish_reason": np.array([finish_reason.encode("utf-8")], np.object_),
            **{name: np.array(column, np.float32) for name, column in self.traces.items()},
        }
        tensors = [pb_utils.Tensor(name, value) for name, value in values.items() if name in self.job.outputs]
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if finish_reason else 0
        self.job.sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=flags)
        self.ids, self.text, self.traces = [], "", {name: [] for name in self.traces}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        if not pb_utils.using_decoupled_model_transaction_policy(config):
            raise pb_utils.TritonModelException("config.pbtxt: model_transaction_policy must be decoupled")
        settings = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        inputs = [entry["name"] for entry in config["input"]]
        outputs = [entry["name"] for entry in config["output"]]
        self.defaults = {name: number(name, settings[name]) for name in inputs if name.startswith(FUSION)}
        self.traces = [name for name in outputs if name.startswith(TRACE)]

        folder = Path(__file__).parent / "genai"
        description = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        ends = description["eos_token_id"]
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.vocabulary, self.context = description["vocab_size"], description["context_length"]
        self.model = og.Model(str(folder))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

        concurrency = int(settings.get("concurrency", "1"))
        self.free = threading.Semaphore(concurrency)
        self.workers = ThreadPoolExecutor(concurrency, thread_name_prefix="decode")

    def execute(self, requests):
        """Returns when all requests are under way. Meanwhile later ones wait in Triton's queue."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                job = self.job(request, sender)
            except Exception as error:
                fail(sender, error)
                continue
            self.free.acquire()
            self.workers.submit(self.answer, job)
        return None

    def finalize(self):
        self.workers.shutdown(wait=True)

    def answer(self, job):
        try:
            self.decode(job)
        except Exception as error:
            fail(job.sender, error)
        finally:
            self.free.release()

    def decode(self, job):
        params = og.GeneratorParams(self.model)
        params.set_search_options(**job.search)
        generator = og.Generator(self.model, params)
        for name, values in job.parameters.items():
            generator.set_model_input(name, values)
        generator.append_tokens(np.array(job.prompt, np.int32))

        replies, text = Replies(job, self.traces), DecodeStream(skip_special_tokens=True)
        finish_reason = ""
        while not finish_reason:
            if job.sender.is_cancelled():
                raise Cancelled("the client cancelled the request")
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            ended = token in self.ends
            finish_reason = "stop" if ended else "length" if generator.is_done() else ""
            traces = {name: np.array(generator.get_output(name))[0, -1, 0] for name in replies.traces}
            replies.token(token, "" if ended else text.step(self.tokenizer, token) or "", traces)
            if job.stream or finish_reason:
                replies.send(finish_reason)

    def job(self, request, sender):
        given = {tensor.name(): tensor.as_numpy().reshape(-1) for tensor in request.inputs()}
        prompt = self.prompt(given)
        max_tokens = whole("max_tokens", one(given, "max_tokens", MAX_TOKENS), 1, self.context)
        if len(prompt) + max_tokens > self.context:
            raise BadRequest(
                f"the prompt's {len(prompt)} tokens and max_tokens = {max_tokens} exceed the context of {self.context}"
            )
        temperature = number("temperature", one(given, "temperature", 0.0), 0.0)
        search = {
            "max_length": len(prompt) + max_tokens,
            "do_sample": temperature > 0,
            "temperature": temperature or 1.0,
            "top_k": whole("top_k", one(given, "top_k", 0), 0, self.vocabulary),
            "top_p": number("top_p", one(given, "top_p", 1.0), 0.0, 1.0),
            "repetition_penalty": number("repetition_penalty", one(given, "repetition_penalty", 1.0), 0.01),
            "random_seed": whole("seed", one(given, "seed", -1), -1, 2**31 - 1),
        }
        parameters = {
            # genai reads the array where it is, so the job keeps it alive.
            name: np.array([number(name, one(given, name, default))], np.float32)
            for name, default in self.defaults.items()
        }
        stream = bool(one(given, "stream", False))
        return Job(sender, set(request.requested_output_names()), stream, prompt, search, parameters)

    def prompt(self, given):
        if ("text_input" in given) == ("input_ids" in given):
            raise BadRequest("give either text_input or input_ids")
        if "text_input" in given:
            try:
                ids = self.tokenizer.encode(one(given, "text_input", b"").decode("utf-8")).ids
            except UnicodeDecodeError as error:
                raise BadRequest(f"text_input: {error}") from None
        else:
            ids = given["input_ids"]
        prompt = [int(token) for token in ids]
        if not prompt:
            raise BadRequest("the prompt has no tokens")
        if outside := [token for token in prompt if not 0 <= token < self.vocabulary]:
            raise BadRequest(f"input_ids: {outside[0]} is not a token; ids are less than {self.vocabulary}")
        return prompt


def one(given, name, default):
    values = given.get(name)
    if values is None:
        return default
    if len(values) != 1:
        raise BadRequest(f"{name}: one value is expected, not {len(values)}")
    return values[0]


def number(name, value, least=-math.inf, most=math.inf):
    try:
        value = float(value)
    except ValueError:
        raise BadRequest(f"{name}: {value!r} is not a number") from None
    if not math.isfinite(value):
        raise BadRequest(f"{name}: {value} is not a finite number")
    return within(name, value, least, most)


def whole(name, value, least, most):
    return within(name, int(value), least, most)


def within(name, value, least, most):
    if not least <= value <= most:
        raise BadRequest(f"{name}: {value} is not between {least} and {most}")
    return value


def fail(sender, error):
    """The last response to one request."""
    codes = {BadRequest: pb_utils.TritonError.INVALID_ARG, Cancelled: pb_utils.TritonError.CANCELLED}
    code = codes.get(type(error), pb_utils.TritonError.INTERNAL)
    triton_error = pb_utils.TritonError(str(error) or type(error).__name__, code)
    response = pb_utils.InferenceResponse(error=triton_error)
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
