"""OpenAI's own Python client, and LangChain's, against a server: do they get what they expect, and is it right?

usage: openai_client.py http://127.0.0.1:8080 MODEL [--chat-model NAME | --no-chat] [--prompt TEXT] [--without-langchain]

One line a check, and exit status 1 where one fails. The log-probabilities are compared with each other: those of a greedy text
while it is generated, and those of the same text when it is echoed. A server that is off by one position fails that.
Packages: requirements.txt.
"""

from __future__ import annotations

import math
import os

import common
import openai
from common import KEY_VARIABLE, check

# Log-probabilities of one position, computed in two ways. In nats.
NEAR = 1e-3


class Peer:
    def __init__(self, args):
        self.url, self.model, self.prompt = args.url.rstrip("/"), args.model, args.prompt
        self.chat_model = args.chat_model or args.model
        self.key = os.environ.get(KEY_VARIABLE, "none")
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=120)

    def complete(self, **more):
        fields = {"model": self.model, "prompt": self.prompt, "max_tokens": 24, "temperature": 0, **more}
        return self.client.completions.create(**fields)

    def chat(self, **more):
        messages = [{"role": "user", "content": "Name three colours of the rainbow."}]
        fields = {"model": self.chat_model, "messages": messages, "max_tokens": 24, "temperature": 0, **more}
        return self.client.chat.completions.create(**fields)

    # Completions

    def models(self) -> str:
        names = [model.id for model in self.client.models.list()]
        for name in {self.model, self.chat_model}:
            check(name in names, f"{name} is not among {names}")
        return ", ".join(names)

    def completion(self) -> str:
        answer = self.complete()
        check(len(answer.choices) == 1, f"{len(answer.choices)} choices")
        check(answer.choices[0].text, "an empty text")
        check(answer.choices[0].finish_reason in ("stop", "length"), f"finish_reason {answer.choices[0].finish_reason}")
        check(answer.model == self.model, f"model {answer.model}")
        usage(answer.usage)
        return repr(answer.choices[0].text)

    def usage_counts(self) -> None:
        prompt = common.token_ids(self.url, self.model, self.prompt)
        for tokens in (1, 5):
            counted = self.complete(max_tokens=tokens).usage
            check(1 <= counted.completion_tokens <= tokens, f"{counted.completion_tokens} tokens of at most {tokens}")
            # One more, where the tokenizer puts a token before a text.
            check(
                counted.prompt_tokens - len(prompt) in (0, 1),
                f"{counted.prompt_tokens} prompt tokens, {len(prompt)} from /tokenize",
            )

    def echo(self) -> None:
        choice = self.complete(echo=True, logprobs=2, max_tokens=1).choices[0]
        parts = choice.logprobs
        prompt = common.token_ids(self.url, self.model, self.prompt)
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            length = len(getattr(parts, name) or [])
            check(length == len(prompt) + 1, f"{length} {name} for {len(prompt)} tokens and a generated one")
        check(
            parts.token_logprobs[0] is None and parts.top_logprobs[0] is None, "the first token has a log-probability"
        )
        check(
            "".join(parts.tokens) == choice.text,
            f"the tokens join to {''.join(parts.tokens)!r}, the text is {choice.text!r}",
        )
        check(choice.text.startswith(self.prompt), f"the text begins with {choice.text[: len(self.prompt)]!r}")
        for token, offset in zip(parts.tokens, parts.text_offset):
            check(choice.text[offset : offset + len(token)] == token, f"no {token!r} at offset {offset}")
        numbers(parts.tokens[1:], parts.token_logprobs[1:], parts.top_logprobs[1:])

    def echo_alone(self) -> None:
        """What older clients ask for: the prompt's log-probabilities and nothing generated."""
        one, none = (self.complete(echo=True, logprobs=1, max_tokens=n).choices[0] for n in (1, 0))
        check(none.text == self.prompt, f"the text {none.text!r}")
        length = len(none.logprobs.tokens)
        check(
            length == len(one.logprobs.tokens) - 1,
            f"{length} tokens, and {len(one.logprobs.tokens)} with a generated one",
        )
        near(
            none.logprobs.token_logprobs[1:],
            one.logprobs.token_logprobs[1:length],
            "without and with a generated token",
        )

    def echoed_as_generated(self) -> str:
        """The log-probabilities of a text do not depend on who wrote it."""
        prompt = common.token_ids(self.url, self.model, self.prompt)
        said = self.complete(prompt=prompt, logprobs=1, extra_body={"fusion": {"trace": True}}).choices[0]
        ids = [token["id"] for token in self.fusion(said)["tokens"]]
        told = said.logprobs.token_logprobs
        check(len(ids) == len(told), f"{len(ids)} tokens in fusion, {len(told)} log-probabilities")
        read = self.complete(prompt=prompt + ids, echo=True, logprobs=1, max_tokens=1).choices[0].logprobs
        near(told, read.token_logprobs[len(prompt) : -1], "generated and echoed")
        for position, top in enumerate(read.top_logprobs[len(prompt) : -1]):
            # As lm-eval decides whether a token is the greedy one: exact equality.
            check(
                max(top.values()) == read.token_logprobs[len(prompt) + position],
                f"token {position} of a greedy text is not the top one",
            )
        return f"{len(ids)} tokens"

    def logprobs_are_untempered(self) -> None:
        """They are those of the distribution at temperature 1 without truncation, however a token was drawn."""
        plain = self.complete(logprobs=1, max_tokens=1).choices[0].logprobs
        sharp = self.complete(logprobs=1, max_tokens=1, temperature=0.01, top_p=0.5, seed=1).choices[0].logprobs
        check(plain.tokens == sharp.tokens, f"{sharp.tokens} at temperature 0.01, {plain.tokens} greedy")
        near(plain.token_logprobs, sharp.token_logprobs, "at temperature 0 and 0.01")

    def fusion(self, choice) -> dict:
        fusion = (choice.model_extra or {}).get("fusion")
        check(isinstance(fusion, dict) and "tokens" in fusion, "a choice without `fusion.tokens`")
        return fusion

    def fusion_extension(self) -> str:
        body = {"fusion": {"trace": True, "top_choices": 3}}
        choice = self.complete(logprobs=1, max_tokens=6, extra_body=body).choices[0]
        tokens = self.fusion(choice)["tokens"]
        for token, text in zip(tokens, choice.logprobs.tokens):
            # `logprobs` has what a token adds to the text: nothing, where it ends it, and what is left of it before a stop string.
            check(token["token"].startswith(text), f"{token['token']!r} in fusion, {text!r} in logprobs")
        near([token["logprob"] for token in tokens], choice.logprobs.token_logprobs, "in fusion and in logprobs")
        for token in tokens:
            check(isinstance(token["trace"], dict), f"trace {token['trace']!r}")
            check(token["sources"], "no sources")
            for role, top in token["sources"].items():
                if top is None:
                    # An early exit left it idle.
                    continue
                check(len(top) == 3, f"{len(top)} choices of {role}")
                logprobs = [choice["logprob"] for choice in top]
                check(logprobs == sorted(logprobs, reverse=True) and logprobs[0] <= 0, f"{role}: {logprobs}")
        plain = self.complete(max_tokens=6)
        check(plain.choices[0].text == choice.text, "asking for a trace changes the text")
        return "sources " + ", ".join(tokens[0]["sources"]) + "; trace " + (", ".join(tokens[0]["trace"]) or "empty")

    def several_prompts(self) -> None:
        prompts = [self.prompt, self.prompt + " The", "The"]
        alone = [self.complete(prompt=prompt).choices[0].text for prompt in prompts]
        together = self.complete(prompt=prompts, n=2)
        check([choice.index for choice in together.choices] == list(range(6)), "indices not in order")
        for choice in together.choices:
            expected = alone[choice.index // 2]
            check(choice.text == expected, f"choice {choice.index} is {choice.text!r}, alone {expected!r}")
        ids = [common.token_ids(self.url, self.model, prompt) for prompt in prompts]
        lists = self.complete(prompt=ids)
        check(len(lists.choices) == 3, f"{len(lists.choices)} choices for 3 lists of ids")

    def stop(self) -> None:
        whole = self.complete().choices[0].text
        # Inside a word, so that the stop string ends within a token or reaches over two.
        middle = len(whole) // 2
        word = whole[middle : middle + 2]
        cut = self.complete(stop=[word, "no such text"]).choices[0]
        check(cut.text == whole[: whole.index(word)], f"{cut.text!r} for stop {word!r} in {whole!r}")
        check(cut.finish_reason == "stop", f"finish_reason {cut.finish_reason}")
        streamed = "".join(chunk.choices[0].text for chunk in self.complete(stop=[word], stream=True) if chunk.choices)
        check(streamed == cut.text, f"{streamed!r} streamed, {cut.text!r} at once")

    def stream(self) -> None:
        fields = {"temperature": 0.9, "seed": 11, "logprobs": 1}
        whole = self.complete(**fields)
        chunks = list(self.complete(stream=True, stream_options={"include_usage": True}, **fields))
        check(len({chunk.id for chunk in chunks}) == 1, "chunks of one stream have several ids")
        text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
        check(text == whole.choices[0].text, f"{text!r} streamed, {whole.choices[0].text!r} at once")
        told = [
            lp
            for chunk in chunks
            for choice in chunk.choices
            if choice.logprobs
            for lp in choice.logprobs.token_logprobs
        ]
        near(told, whole.choices[0].logprobs.token_logprobs, "streamed and at once")
        ended = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        check(
            ended == [whole.choices[0].finish_reason],
            f"finish_reason {ended} streamed, {whole.choices[0].finish_reason} at once",
        )
        check(
            not chunks[-1].choices and chunks[-1].usage == whole.usage,
            f"usage {chunks[-1].usage}, at once {whole.usage}",
        )

    def seeds(self) -> None:
        fields = {"temperature": 1.5, "max_tokens": 16}
        texts = [self.complete(seed=seed, **fields).choices[0].text for seed in (1, 1, 2, 3, 4)]
        check(texts[0] == texts[1], f"seed 1 says {texts[0]!r} and {texts[1]!r}")
        check(len(set(texts)) > 1, f"every seed says {texts[0]!r}")
        two = [choice.text for choice in self.complete(seed=1, n=4, **fields).choices]
        check(len(set(two)) > 1, f"four choices of one seed are all {two[0]!r}")
        check(
            two == [choice.text for choice in self.complete(seed=1, n=4, **fields).choices],
            "n choices of one seed differ the second time",
        )

    def logit_bias(self) -> None:
        first = self.complete(logprobs=1, max_tokens=1).choices[0]
        token = common.token_ids(self.url, self.model, first.text)[0]
        without = self.complete(max_tokens=1, logit_bias={str(token): -100}).choices[0].text
        check(without != first.text, f"{first.text!r} in spite of a bias of -100")
        # Some visible letter or digit.
        forced = common.token_ids(self.url, self.model, "5")[-1]
        answer = self.complete(max_tokens=3, logit_bias={str(forced): 100}).choices[0].text
        check(answer.replace(" ", "") == "555", f"{answer!r} with a bias of 100 on '5'")

    # Errors

    def refuses(self, kind, about: str, ask, *args, **fields) -> None:
        try:
            ask(*args, **fields)
        except kind as error:
            body = error.body
            check(
                isinstance(body, dict) and body.get("message"),
                f"{about}: no error.message in {error.response.text[:200]!r}",
            )
            return
        except openai.APIError as error:
            raise common.CheckFailed(f"{about}: {type(error).__name__} instead of {kind.__name__}: {error}") from None
        raise common.CheckFailed(f"{about} was accepted")

    def errors(self) -> None:
        bad = openai.BadRequestError
        self.refuses(openai.NotFoundError, "an unknown model", self.complete, model="no-such-model")
        self.refuses(bad, "temperature -1", self.complete, temperature=-1)
        self.refuses(bad, "top_p 2", self.complete, top_p=2)
        self.refuses(bad, "n 0", self.complete, n=0)
        self.refuses(bad, "n 1000000", self.complete, n=1000000)
        self.refuses(bad, "best_of 3", self.complete, best_of=3)
        self.refuses(bad, "logprobs 100000", self.complete, logprobs=100000)
        self.refuses(bad, "max_tokens -1", self.complete, max_tokens=-1)
        self.refuses(bad, "a token id of no token", self.complete, prompt=[2_000_000_000])
        self.refuses(bad, "a negative token id", self.complete, prompt=[-1])
        self.refuses(bad, "a prompt longer than the context", self.complete, prompt="word " * 50_000)
        self.refuses(
            bad,
            "an unknown parameter of the strategy",
            self.complete,
            extra_body={"fusion": {"parameters": {"no_such": 1}}},
        )
        self.refuses(bad, "fusion of a wrong type", self.complete, extra_body={"fusion": 5})

    # Chat

    def chat_stream(self) -> str:
        fields = {"temperature": 0.7, "seed": 7, "logprobs": True, "top_logprobs": 3}
        whole = self.chat(**fields)
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}, **fields))
        check(chunks[0].choices[0].delta.role == "assistant", f"the first delta is {chunks[0].choices[0].delta}")
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        check(
            text == whole.choices[0].message.content, f"{text!r} streamed, {whole.choices[0].message.content!r} at once"
        )
        told = [
            token
            for chunk in chunks
            for choice in chunk.choices
            if choice.logprobs
            for token in choice.logprobs.content or []
        ]
        at_once = whole.choices[0].logprobs.content
        check(
            [token.token for token in told] == [token.token for token in at_once], "other tokens streamed than at once"
        )
        near([token.logprob for token in told], [token.logprob for token in at_once], "streamed and at once")
        joined = b"".join(bytes(token.bytes) for token in told).decode(errors="replace")
        check(joined == text, f"the tokens' bytes join to {joined!r}, the text is {text!r}")
        for token in told:
            tops = [top.logprob for top in token.top_logprobs]
            check(len(tops) == 3 and tops == sorted(tops, reverse=True), f"top_logprobs {tops}")
            check(-1e4 < token.logprob <= 0 and tops[0] >= token.logprob, f"{token.logprob} and {tops}")
        check(
            chunks[-1].usage == whole.usage and not chunks[-1].choices,
            f"usage {chunks[-1].usage}, at once {whole.usage}",
        )
        usage(whole.usage)
        return repr(text)

    def chat_errors(self) -> None:
        bad = openai.BadRequestError
        self.refuses(openai.NotFoundError, "an unknown model", self.chat, model="no-such-model")
        self.refuses(bad, "no messages", self.chat, messages=[])
        self.refuses(bad, "an unknown role", self.chat, messages=[{"role": "wizard", "content": "x"}])
        self.refuses(bad, "top_logprobs without logprobs", self.chat, top_logprobs=3)
        self.refuses(bad, "top_logprobs 1000", self.chat, logprobs=True, top_logprobs=1000)
        self.refuses(bad, "n 0", self.chat, n=0)

    def no_chat(self) -> None:
        self.refuses(openai.BadRequestError, "a chat with a model that has no chat template", self.chat)

    # LangChain

    def langchain_completion(self) -> str:
        from langchain_openai import OpenAI

        fields = {"model": self.model, "max_tokens": 24, "temperature": 0}
        llm = OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, **fields)
        text = llm.invoke(self.prompt)
        expected = self.complete().choices[0].text
        check(text == expected, f"{text!r}, and {expected!r} without LangChain")
        check("".join(llm.stream(self.prompt)) == expected, "streamed otherwise")
        return repr(text)

    def langchain_chat(self) -> str:
        from langchain_openai import ChatOpenAI

        fields = {"model": self.chat_model, "max_tokens": 24, "temperature": 0, "logprobs": True, "top_logprobs": 2}
        llm = ChatOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, **fields)
        question = "Name three colours of the rainbow."
        answer = llm.invoke(question)
        expected = self.chat().choices[0].message.content
        check(answer.content == expected, f"{answer.content!r}, and {expected!r} without LangChain")
        check(answer.response_metadata["logprobs"]["content"], "no logprobs")
        check(answer.usage_metadata["output_tokens"] > 0, f"usage {answer.usage_metadata}")
        check("".join(chunk.content for chunk in llm.stream(question)) == expected, "streamed otherwise")
        return repr(answer.content)


def usage(counted) -> None:
    check(counted and counted.prompt_tokens > 0 and counted.completion_tokens > 0, f"usage {counted}")
    check(counted.prompt_tokens + counted.completion_tokens == counted.total_tokens, f"usage {counted} does not add up")


def near(ours: list[float], theirs: list[float], what: str) -> None:
    check(len(ours) == len(theirs), f"{what}: {len(ours)} and {len(theirs)} log-probabilities")
    for position, (a, b) in enumerate(zip(ours, theirs)):
        check(
            a is not None and b is not None and abs(a - b) <= NEAR,
            f"{what}: log-probabilities {a} and {b} at {position}",
        )


def numbers(tokens: list[str], told: list[float], tops: list[dict[str, float]]) -> None:
    for token, logprob, top in zip(tokens, told, tops):
        check(logprob is not None and math.isfinite(logprob) and logprob <= 0, f"{token!r} has {logprob}")
        check(top, f"{token!r} has no top_logprobs")
        check(max(top.values()) >= logprob, f"{token!r} has {logprob}, above the top {top}")


def run() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument(
        "--prompt", default="Question: What is the food of the tamcub?\nAnswer:", help="what is completed"
    )
    parser.add_argument("--chat-model", help="the model of the chats, where MODEL has no chat template")
    parser.add_argument("--no-chat", action="store_true", help="no model has a chat template: chats are to be refused")
    parser.add_argument("--without-langchain", action="store_true", help="leave LangChain out")
    args = parser.parse_args()
    peer = Peer(args)
    checks = [
        ("models", peer.models),
        ("a completion", peer.completion),
        ("usage", peer.usage_counts),
        ("echo with logprobs", peer.echo),
        ("echo without a generated token", peer.echo_alone),
        ("log-probabilities echoed as generated", peer.echoed_as_generated),
        ("log-probabilities at any temperature", peer.logprobs_are_untempered),
        ("the fusion field", peer.fusion_extension),
        ("several prompts, n", peer.several_prompts),
        ("stop strings", peer.stop),
        ("a streamed completion", peer.stream),
        ("seeds", peer.seeds),
        ("logit_bias", peer.logit_bias),
        ("errors", peer.errors),
    ]
    checks += (
        [("a chat is refused", peer.no_chat)]
        if args.no_chat
        else [("a streamed chat", peer.chat_stream), ("errors of chats", peer.chat_errors)]
    )
    if not args.without_langchain:
        checks.append(("LangChain completes", peer.langchain_completion))
        if not args.no_chat:
            checks.append(("LangChain chats", peer.langchain_chat))
    return common.run_checks(checks)


if __name__ == "__main__":
    common.main(run)
