"""What the stand-in server knows: its models, and texts with numbers that a fusion could have made."""

from __future__ import annotations

import math
import random
import re

CHOICES = 5
TEXTS = {
    "weak-to-strong": (
        " A rainbow forms when sunlight enters a raindrop, bends, reflects off its back and bends again on its way out.\n\n"
        "Each colour bends by a slightly different angle: red leaves at about 42°, violet at about 40°. You see one colour "
        "from each drop, and the drops of one colour lie on a circle around the point opposite the sun. 🌈 So stand with "
        "the sun behind you."
    ),
    "big": (
        " Rainbows are a beautiful phenomenon that people have admired for centuries. In many cultures the rainbow is a "
        "bridge between worlds. The rainbow is caused by light, and light is refracted in water droplets. The rainbow is "
        "a beautiful phenomenon, and people have admired it."
    ),
    "tuned": (
        " A rainbow forms when light from the sun hits water drops. The light bends and makes colours. There are seven "
        "colours in the rainbow. The rainbow is in the sky after rain. You should look at the sky."
    ),
}
MORE = (
    " the drop of water light angle colour that is reflected inside again and at an observer sees bends more than red "
    "violet circle sky sun behind rain air refraction index about degrees"
).split()
HTML = " <img src=x onerror=\"document.title='ran'\"> <script>document.title = 'ran'</script> &amp; <b>bold</b> </span>"


def described(text: str, kind: str, **more) -> dict:
    return {"description": text, "type": kind, **more}


def one_of(default: str | None, text: str, **choices: str) -> dict:
    known = [{"const": name, "description": meaning, "type": "string"} for name, meaning in choices.items()]
    return {"description": text, "default": default, "oneOf": known}


def optional(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}], "default": None, "description": schema.get("description", "")}


DYNAMIC_KL = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "$defs": {
        "Evidence": {
            "oneOf": [
                {"const": "generated", "type": "string", "description": "The tokens generated so far."},
                {"const": "prompt", "type": "string", "description": "The prompt, for the whole text."},
            ]
        },
        "Posterior": {
            "type": "object",
            "description": "Weights `posterior`: how evidence counts.",
            "properties": {
                "eta": described("Factor of the evidence; 0 is the prior for ever.", "number", minimum=0, default=1.0),
                "gamma": described(
                    "What a token's evidence keeps from one token to the next.",
                    "number",
                    exclusiveMinimum=0,
                    maximum=1,
                    default=0.99,
                ),
                "evidence": {
                    "$ref": "#/$defs/Evidence",
                    "default": "generated",
                    "description": "What counts as evidence.",
                },
            },
        },
    },
    "properties": {
        "objective": one_of(
            "paper",
            "What the strength is chosen for.",
            paper="The published objective: both divergences match, as a sum of squares.",
            jeffreys="The sum of both divergences matches: one root always, the most robust.",
            budget="The largest strength that keeps KL(fused‖base) within a budget.",
        ),
        "bounds": {
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0, "maximum": 100},
                    "minItems": 2,
                    "maxItems": 2,
                },
                {"const": "paper", "description": "[0, 2], as published"},
            ],
            "default": [0.0, 1.0],
            "description": 'Smallest and largest strength, or "paper", which is [0, 2] as published.',
        },
        "solver": {"enum": ["exact", "grid"], "default": "exact", "description": "How it is found."},
        "kl_temperature": described(
            "Divides all logits where divergences are compared, and only there.",
            "number",
            exclusiveMinimum=0,
            default=1.0,
        ),
        "ema": described(
            "Share of the last token's strength in this token's: 0 is no smoothing.",
            "number",
            minimum=0,
            exclusiveMaximum=1,
            default=0.0,
        ),
        "prompts": described("How many calibration prompts are run.", "integer", minimum=2, maximum=64, default=16),
        "smooth": described("Whether ties are broken smoothly.", "boolean", default=False),
        "budget_nats": {
            "type": ["number", "null"],
            "minimum": 0,
            "default": None,
            "description": "Objective `budget`: nats of KL(fused‖base) that every token may spend; 0.5 when absent.",
        },
        "fixed_weights": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "default": None,
            "description": "Weights `fixed`: one for each expert, in their order; they add up to 1.",
        },
        "posterior": optional(
            {"$ref": "#/$defs/Posterior", "description": "Weights `posterior`: how evidence counts."}
        ),
    },
}
STATIC_PROXY = {
    "type": "object",
    "properties": {
        "alpha": described(
            "The strength of the experts: 0 is the base alone, 1 proxy tuning as published.", "number", default=1.0
        ),
        "base_weight": described("The factor of the base's logits.", "number", minimum=0, default=1.0),
    },
}
SOURCES = {
    name: {"sha256": f"{n:x}" * 64, "license": "apache-2.0"} for n, name in enumerate(("big", "tuned", "small"), 10)
}


def model(name: str, strategy: str, roles: dict, schema: dict, parameters: dict, trace: list) -> dict:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "logitfuse",
        "fusion": {
            "strategy": strategy,
            "parameters": parameters,
            "parameters_schema": schema,
            "roles": roles,
            "trace": trace,
            "sources": {source: SOURCES[source] for source in roles.values()},
        },
    }


ROLES = {"base": "big", "expert": "tuned", "anti": "small"}
KLS = ["kl_fused_base", "kl_base_fused", "kl_expert_anti", "kl_anti_expert"]
MODELS = [
    model("weak-to-strong", "dynamic-kl", ROLES, DYNAMIC_KL, {"objective": "jeffreys"}, ["alpha", *KLS, "saturated"]),
    model("proxy", "static-proxy", ROLES, STATIC_PROXY, {"alpha": 0.7}, ["alpha"]),
    model("big", "none", {"base": "big"}, {"type": "object", "properties": {}}, {}, []),
    model("tuned", "none", {"base": "tuned"}, {"type": "object", "properties": {}}, {}, []),
]


def pieces(text: str) -> list[bytes]:
    """Words with the space before them; what is not ASCII in two halves, as byte-level tokenizers do."""
    found = []
    for piece in re.findall(r"\n+| ?[A-Za-z]+| ?[0-9]+| ?[^A-Za-z0-9\s]|\s", text):
        raw = piece.encode()
        if len(raw) > len(piece) and len(raw.strip()) > 3:
            found += [raw[:-2], raw[-2:]]
        else:
            found.append(raw)
    return found


def softmax(logits: list[float]) -> list[float]:
    """Of log-probabilities, so that sums stay 1."""
    most = max(logits)
    total = most + math.log(sum(math.exp(logit - most) for logit in logits))
    return [logit - total for logit in logits]


def kl(p: list[float], q: list[float]) -> float:
    return sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))


def tokens(name: str, rng: random.Random, count: int, html: bool, settings: dict):
    """Text and token record, one after the other."""
    raw = pieces((HTML if html else "") + TEXTS.get(name, TEXTS["weak-to-strong"]))
    while len(raw) < count and count > 400:
        raw.append(b".\n" if len(raw) % 40 == 0 else f" {rng.choice(MORE)}".encode())
    roles = next(model for model in MODELS if model["id"] == name)["fusion"]["roles"]
    fixed = settings.get("alpha", 0.7) if name == "proxy" else None
    held, drift = b"", 0.5
    for piece in raw[:count]:
        held += piece
        try:
            text, held = held.decode(), b""
        except UnicodeDecodeError:
            text = ""
        drift = min(1.0, max(0.02, drift + rng.gauss(0, 0.22)))
        alpha = fixed if fixed is not None else drift
        yield text, record(piece, rng, roles, alpha, name)


def record(piece: bytes, rng: random.Random, roles: dict, alpha: float, name: str) -> dict:
    shown = piece.decode(errors="replace")
    others = [f" {word}" for word in rng.sample(MORE, 7) if f" {word}" != shown]
    words = [shown, *others]
    ids = [sum(word.encode()) * 7 % 50000 + len(word) for word in words]
    strength = abs(rng.gauss(2.6, 1.8))
    anti = softmax([rng.gauss(0, 1.4) for _ in words])
    base = softmax([rng.gauss(0, 1.2) + (strength if at == 0 else 0) for at in range(len(words))])
    expert = softmax([log + (rng.gauss(2.8, 1.2) if at == 0 else rng.gauss(0, 0.5)) for at, log in enumerate(anti)])
    rows = {"base": base, "expert": expert, "anti": anti}
    fused = (
        softmax([b + alpha * (e - a) for b, e, a in zip(base, expert, anti, strict=True)]) if len(roles) > 1 else base
    )
    trace = {}
    if len(roles) > 1:
        trace["alpha"] = alpha
    if name == "weak-to-strong":
        pairs = [(fused, base), (base, fused), (expert, anti), (anti, expert)]
        trace |= {column: kl(p, q) for column, (p, q) in zip(KLS, pairs, strict=True)}
        trace["saturated"] = float(alpha >= 1.0)

    def choices(row: list[float]) -> list[dict]:
        order = sorted(range(len(words)), key=lambda at: -row[at])[:CHOICES]
        return [{"id": ids[at], "token": words[at], "logprob": row[at]} for at in order]

    token = {"id": ids[0], "token": shown, "logprob": fused[0], "trace": trace}
    if "\ufffd" in shown:
        token["bytes"] = list(piece)
    return token | {"sources": {role: choices(rows[role]) for role in roles}}
