"""Answers of the real packages, for the crate `metrics` to be compared with.

usage: python tests/second_opinion/metrics.py --triviaqa FOLDER [--out metrics/tests/vectors] [--size N] [--seed N]

FOLDER is a checkout of https://github.com/mandarjoshi90/triviaqa; the other packages are in metrics-requirements.txt.
--size 1 makes the vectors that are committed; larger ones are for a comparison in passing:

    python tests/second_opinion/metrics.py --triviaqa FOLDER --out target/vectors --size 20 --seed 1
    LOGITFUSE_METRICS_VECTORS=target/vectors cargo test -p logitfuse-metrics --test vectors

Every file is JSON lines; the first line says how it was made. Texts are written once, in texts.jsonl, and named by number.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import re
import string
import struct
import sys
import unicodedata
import warnings
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")

AWKWARD = [
    "", " ", "\n", "\t \r\n", "\x1c\x1d\x1e\x1f", "\x85\xa0", "\u2003\u2028\u3000", "\u200b", "\ufeff", "\0", "a\0", "\0a", "a\0b",
    "İ", "i", "i\u0307", "ı", "I", "İstanbul", "istanbul", "ISTANBUL", "İİ", "ß", "ẞ", "SS", "straße", "STRASSE", "ΟΔΟΣ", "οδός",
    "οδος", "ΣΑΣ", "Σ", "ς", "K", "\u212a", "\u212b", "ſ", "ﬁn", "FIN", "ŉ", "ǅ", "ǆ", "café", "cafe\u0301", "CAFÉ", "naïve", "naive",
    "日本語の文章", "日本 語", "答案是 42。", "答えは7です。", "いち、に。", "Ⅷ ⅷ", "½ ٣ ५ ²", "१२३", "٤٥٦", "𝟘𝟙", "𝒳", "कि का", "हिन्दी में", "ไทย คำตอบคือ 5",
    "עברית", "العربية", "👩‍👩‍👧", "🙂🙂", "🏳️‍🌈 flag", "e\u0301\u0301", "a\u0308", "\u0301", "ᲀв", "ǰ", "ꙋᲈ",
    "42", "-42", "42.", "4,200", "$4,200.50", "4.2.", "-", "--", ".", ",", "...", "$", "1e5", "+7", "٣", "0x1F", "1/2", "3%",
    "#### 42", "#### -1,234.5", "So 5 * 4 = 20.\n#### 20", "#### 7\n#### 8", "The answer is 7.", "The answer is -7,000.", "the answer is: B",
    "The answer is (B).", "(A)", "(b)", "A", "B.", "answer: C", "Answer:\nD", ": A", ":  (C)", "A or B", "(A) (B) (C)", "E", "yes", "Yes.", "NO",
    "No, yes", "valid", "invalid", "True False", "truE", "The final answer: 12 apples.", "The final answer is 3", "It is 3, or 14.",
    "The Eiffel Tower", "the eiffel tower!", "Eiffel-Tower", "a", "an", "the", "A. The an", "the_the", "an apple a day", "theatre", "‘quoted’ ´x´ `y`",
    "rock-n-roll", "rock n roll", "R&B &amp; &quot;soul&quot; &lt;3 &gt;", "well-\nknown", "<skipped>it", "1,000.5-7 a.b, c.", "U.S.A.", "x = {y | z~}",
    "line one\nline two\nline three", "line two\n\nline one\n", "\nline one", "a\r\nb", "word", " word ", "word\n", "\u00a0word\u2003", "two  words", "tab\tted",
    "\\boxed{C}", "'single' \"double\"", "a_b", "__init__", "C++", "f(x)", "[invalid]", "None", "null",
]

WORDS = """the a an of and to in is was were not cat cats dog dogs running runs ran runner quickly quick happiness happy enjoy enjoying
enjoyment relational conditional rational valences hesitancy digitizer conformably radically differently vilely analogously
vietnamization predication operator feudalism decisiveness hopefulness callousness formality sensitivity sensibility triplicate
formative formalize electricity electrical hopeful goodness revival allowance inference airliner gyroscopic adjustable defensible
irritant replacement adjustment dependent adoption homologous communism activate angularity effective bowdlerize probate rate cease
controlling rolls skies dying news theology geologies succeeded proceedings yyyy say sayings flies dies agreed feed plastered motoring
Paris London model models fused expert answer answers question seven eight hundred thousand apples each costs sold bought left
total because therefore first second finally however capital river mountain largest people city""".split()

PIECES = ["42", "7", "-3", "$1,000", "3.14", "100%", "(A)", "(B)", "C.", "####", "The answer is", "answer:", "yes", "No", "\n", "\n\n",
          " \u00a0", "é", "Ünï", "İ", "ß", "ς", "🙂", "日本", "कि", "_", "--", "...", "!", "?", ";", ",", "'s", "don't", "\t", "²", "٣"]


def made_by(args) -> dict:
    packages = ["lm_eval", "rouge_score", "sacrebleu", "nltk", "scipy", "statsmodels", "numpy", "transformers"]
    return {
        "made_by": f"python tests/second_opinion/metrics.py --triviaqa FOLDER --size {args.size} --seed {args.seed}",
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
    } | {name: version(name) for name in packages}


def write(args, name: str, rows) -> int:
    rows = list(rows)
    with (args.out / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in [made_by(args), *rows]:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")
    return len(rows)


def digest(text: str) -> int:
    """Stands for a long answer; never 0 or 1."""
    return zlib.crc32(text.encode()) % 65521 + 2


# ---------------------------------------------------------------------------------------------------------------- texts


def sentence(rng: random.Random) -> str:
    parts = [rng.choice(PIECES) if rng.random() < 0.25 else rng.choice(WORDS) for _ in range(rng.randint(1, 9))]
    if rng.random() < 0.5:
        parts[0] = parts[0].capitalize()
    return rng.choice(["", "", "", " ", "\n"]) + rng.choice([" ", " ", " ", "  "]).join(parts) + rng.choice(["", ".", "!", "\n", " "])


def changed(rng: random.Random, text: str) -> str:
    """The same text, a little different, so that pairs often have something in common."""
    words = text.split(" ")
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(words))
        match rng.randrange(6):
            case 0:
                words[at] = rng.choice(WORDS)
            case 1:
                words[at] = words[at].upper()
            case 2:
                words.insert(at, rng.choice(WORDS + PIECES))
            case 3:
                words[at] = words[at].strip(string.punctuation)
            case 4:
                words[at] += rng.choice(string.punctuation)
            case _:
                rng.shuffle(words)
    return " ".join(words)


def make_texts(rng: random.Random, size: int) -> tuple[list[str], list[tuple[int, int]]]:
    texts = AWKWARD + [sentence(rng) for _ in range(230 * size)]
    pairs = []
    for i in range(len(texts)):
        if i >= len(AWKWARD):
            texts.append(changed(rng, texts[i]))
            pairs.append((i, len(texts) - 1))
        pairs.append((i, i if rng.random() < 0.1 else rng.randrange(len(AWKWARD) if i < len(AWKWARD) else len(texts))))
    return texts, pairs


# -------------------------------------------------------------------------------------------------------------- filters


def run_filters(filters: list[dict], responses: list[list[str]], doc: dict) -> list:
    from lm_eval.api.instance import Instance
    from lm_eval.filters import build_filter_ensemble

    instances = [Instance(request_type="generate_until", doc=doc, arguments=("", {}), idx=0, resps=r) for r in responses]
    components = [[f["function"], {k: v for k, v in f.items() if k != "function"}] for f in filters]
    build_filter_ensemble("x", components).apply(instances)
    return [instance.filtered_resps["x"] for instance in instances]


def filter_rows(rng: random.Random, texts: list[str], size: int):
    regexes = [
        (r"#### (\-?[0-9\.\,]+)", 0), (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1), (r"([-0-9]+)", 0), (r"\b(Yes|No|yes|no)\b", 0),
        (r"(\([A-Z]\))", -1), (r"^\s*([A-D])", 0), (r"(?<=The answer is )(.*)(?=.)", 0), (r"(?i)answer\s*(?:is)?:?\s*\(?([a-e])\)?", 0),
        (r"((?<=The answer is )(.*)(?=.)|(?<=the answer is )(.*)(?=.)|(?<=The answer: )(.*)(?=.)|(?<=The final answer: )(.*)(?=.))", 0),
        (r"(\b[ABCD]\b)", 0), (r"(-?[0-9]+([ .,][0-9.,]+)?)", -1), (r"^(.*?)\s*$", 0), (r"(?s)(\w+)\W*$", 0), (r"\d+", -1), (r"[^\W\d_]+", 0),
        (r"(?m)^(.+)$", -1), (r"答案是 (\-?[0-9\.\,]+)。", 0), (r"\s+", 0), (r"(a*)(b*)", -1),
    ]
    cases = [[{"function": "regex", "regex_pattern": p, "group_select": g}] for p, g in regexes]
    cases += [[{"function": name}] for name in ("lowercase", "uppercase", "remove_whitespace")]
    cases += [
        [{"function": "regex", "regex_pattern": r"([A-D])", "fallback": ""},
         {"function": "map", "mapping_dict": {"A": 0, "B": "one", "C": "İ"}, "default_value": -1}],
        [{"function": "remove_whitespace"}, {"function": "lowercase"}, {"function": "regex", "regex_pattern": r"(\w+)\.?$", "fallback": "?"}],
    ]
    choices = ["Paris", "the cat", "the cat was happy.", "Yes", "İ", "", "a (b) c"]
    for options in ({}, {"ignore_case": True}, {"ignore_case": True, "ignore_punctuation": True, "regexes_to_ignore": [r"\s+", "a"]},
                    {"regex_pattern": r"answer is (\([A-Z]\))|(\([A-Z]\))", "group_select": -1, "ignore_punctuation": True}):
        for these in (choices[:4], choices):
            cases.append([{"function": "multi_choice_regex", **options, "__choices": these}])
    for case in cases:
        these = case[0].pop("__choices", [])
        case = [*case, {"function": "take_first"}]
        found = [str(r) for r in run_filters(case, [[t] for t in texts], {"choices": these})]
        same = case[0].get("fallback", "[invalid]") if "regex" in case[0]["function"] else None
        # 0: the fallback, 1: the text itself; a long answer by its checksum.
        results = [0 if r == same else 1 if r == t else r if len(r) < 5 else digest(r) for r, t in zip(found, texts)]
        usual = max(set(map(str, results)), key=list(map(str, results)).count)
        usual = next(r for r in results if str(r) == usual)
        yield {"filter": case, "choices": these, "usual": usual, "others": {i: r for i, r in enumerate(results) if r != usual}}
    groups = [[rng.choice(rng.sample(range(len(texts)), 3)) for _ in range(rng.randint(3, 6))] for _ in range(510 * size)]
    yield {"groups": groups}
    for filters in ([{"function": "majority_vote"}, {"function": "take_first"}],
                    [{"function": "take_first_k", "k": 3}, {"function": "lowercase"}, {"function": "majority_vote"}, {"function": "take_first"}]):
        yield {"filter": filters, "votes": [digest(r) for r in run_filters(filters, [[texts[i] for i in g] for g in groups], {})]}


# ------------------------------------------------------------------------------------------------------------- patterns


def random_pattern(rng: random.Random, depth: int, groups: list[int]) -> str:
    def sequence(depth):
        return "".join(item(depth) for _ in range(rng.randint(0 if depth < 3 else 1, 3)))

    def item(depth):
        kind = rng.randrange(20)
        if depth == 0 or kind < 9:
            atom = rng.choice(["a", "b", "1", "é", ".", r"\w", r"\d", r"\s", r"\W", "[ab]", "[^a]", r"[\w-]", "a", "b", "_", r"\n", "[A-Z]", r"[^\s1]"])
        elif kind < 12:
            groups.append(0)
            atom = f"({alternatives(depth - 1)})"
        elif kind == 12:
            atom = f"(?:{alternatives(depth - 1)})"
        elif kind == 13:
            atom = f"(?i:{alternatives(depth - 1)})"
        elif kind == 14:
            return f"(?{rng.choice(['=', '!', '='])}{alternatives(depth - 1)})"
        elif kind == 15:
            return f"(?<{rng.choice('=!')}{rng.choice(['a', 'b', 'ab', '[a1]', 'a|b', 'a|bb', 'a*', 'é', '^', ' '])})"
        elif kind == 16:
            return rng.choice(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
        elif kind == 17:
            atom = f"(?>{alternatives(depth - 1)})"
        elif kind == 18 and groups:
            atom = rng.choice([rf"\{rng.randint(1, len(groups))}", f"(?({rng.randint(1, len(groups))})a|b)"])
        else:
            atom = rng.choice(["ab", "é1"])
        if rng.random() < 0.4:
            atom += rng.choice(["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{,2}", "*+", "?+", "{2,}"])
        return atom

    def alternatives(depth):
        return "|".join(sequence(depth) for _ in range(rng.choice([1, 1, 1, 2, 3])))

    return alternatives(depth)


def repeats_what_may_be_empty(pattern: str) -> bool:
    """Engines differ in how they leave such a loop, and in what its groups hold then."""
    from re import _constants, _parser

    repeats = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}

    def walk(node) -> bool:
        if isinstance(node, _parser.SubPattern):
            return any(map(walk, node.data))
        if isinstance(node, (tuple, list)):
            if len(node) == 2 and node[0] in repeats and node[1][1] > 1 and node[1][2].getwidth()[0] == 0:
                return True
            return any(map(walk, node))
        return False

    return walk(_parser.parse(pattern))


def pattern_rows(rng: random.Random, size: int):
    texts = ["", "aab", "ba1\n", "éA\nbb 1", "abab11é"]
    texts += ["".join(rng.choice("aaabbb11 _\néAB") for _ in range(rng.randint(2, 10))) for _ in range(3)]
    yield {"texts": texts}
    made, seen = 0, set()
    while made < 450 * size:
        pattern = rng.choice(["", "", "", "(?i)", "(?m)", "(?s)", "(?a)"]) + random_pattern(rng, 3, [])
        if pattern in seen or len(pattern) > 40:
            continue
        seen.add(pattern)
        made += 1
        try:
            compiled = re.compile(pattern)
        except re.error as e:
            yield {"pattern": pattern, "refused": str(e)}
            continue
        try:
            found = [[[m.group(0), *(g or "" for g in m.groups())] for m in compiled.finditer(t)] for t in texts]
        except SystemError:
            continue  # Python 3.11 has a bug of its own with captures in possessive repeats.
        # A checksum for each text, of all matches with their groups: the whole answers would be megabytes.
        flat = ["".join("".join(part + "\x1e" for part in m) + "\x1f" for m in f) for f in found]
        yield {"pattern": pattern, **({"nullable": 1} if repeats_what_may_be_empty(pattern) else {}), "found": [digest(f) for f in flat]}


def casing_rows():
    cased = [c for c in map(chr, range(0x110000)) if not 0xD800 <= ord(c) < 0xE000 and (c.lower() != c or c.upper() != c)]
    everything = "".join(cased)
    classes = {"".join(re.findall(f"(?i){re.escape(c)}", everything)) for c in cased}
    yield {"classes": sorted(c for c in classes if len(c) > 1)}


# -------------------------------------------------------------------------------------------------------------- metrics


def bits(values) -> str:
    return "".join(str(int(v)) for v in values)


def exact_match_rows(rng: random.Random, texts, pairs):
    from lm_eval.api.metrics import exact_match_hf_evaluate

    configs = [{}, {"ignore_case": True}, {"ignore_punctuation": True}, {"ignore_numbers": True},
               {"ignore_case": True, "ignore_punctuation": True}, {"ignore_case": True, "ignore_punctuation": True, "ignore_numbers": True},
               {"regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"], "ignore_case": True},
               {"regexes_to_ignore": [r"\b(?:the|an?)\b", r"\s+"], "ignore_case": True, "ignore_punctuation": True},
               {"regexes_to_ignore": [r"\W"]}]
    several = [[i, *(rng.randrange(len(texts)) for _ in range(rng.randint(1, 4)))] for _, i in pairs]
    yield {"several": several}
    for config in configs:
        one = [exact_match_hf_evaluate([texts[i]], [texts[j]], **config)["exact_match"] for i, j in pairs]
        # As ConfigurableTask.process_results does it for several targets.
        any_of = [exact_match_hf_evaluate([texts[i]] * len(js), [texts[j] for j in js], **config)["exact_match"] > 0
                  for (i, _), js in zip(pairs, several)]
        yield {"config": config, "one": bits(one), "any": bits(any_of)}


def question_answering_rows(args, texts, pairs):
    from transformers.data.metrics import squad_metrics

    sys.path.insert(0, str(args.triviaqa))
    from evaluation import triviaqa_evaluation as triviaqa

    both = [(texts[j], texts[i]) for i, j in pairs]
    yield {"squad": {"f1": [squad_metrics.compute_f1(gold, p) for gold, p in both], "exact": bits(squad_metrics.compute_exact(g, p) for g, p in both)}}
    yield {"triviaqa": {"f1": [triviaqa.f1_score(p, g) for g, p in both], "exact": bits(triviaqa.exact_match_score(p, g) for g, p in both)}}
    yield {"normalised": [[squad_metrics.normalize_answer(t), triviaqa.normalize_answer(t)] for t in AWKWARD]}


def porter_rows(rng: random.Random, size: int):
    from nltk.stem.porter import PorterStemmer

    stemmer = PorterStemmer()
    suffixes = """s es ies sses ss ed ied eed ing at bl iz ational tional enci anci izer bli abli alli entli eli ousli ization ation ator alism
        iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement
        ment ent ion sion tion ou ism ate iti ous ive ize e ll y yy ying ly ally ically fully lessness ability 1 42""".split()
    onsets, vowels = "b br c ch d f g gr h j k l m n p pl q r s st t th v w x y z bb ll ss tt".split() + [""] * 3, "a e i o u y ea oo ou ay".split()

    def syllables():
        return "".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(["", "", "t", "l", "n", "x", "w", "y", "ss", "b"]) for _ in range(rng.randint(1, 3)))

    words = set(WORDS) | set(stemmer.pool) | {"", "a", "by", "oed", "aed", "ing", "bing", "ied", "İstanbul", "naïvely", "RUNNING", "y", "yyy", "alli"}
    stdlib = " ".join(sys.modules[name].__doc__ or "" for name in sorted(sys.modules) if getattr(sys.modules[name], "__doc__", None))
    words |= set(sorted(set(re.findall("[a-z]{3,}", stdlib.lower())))[:2000])
    while len(words) < 3200 * size:
        words.add(syllables() + "".join(rng.choice(suffixes) for _ in range(rng.choice([1, 1, 1, 2]))))
    # A stem is nearly always a beginning of the word and an end: its length and the rest.
    for word in sorted(words):
        stem = stemmer.stem(word)
        kept = len([1 for n in range(1, len(word) + 1) if stem[:n] == word[:n]])
        yield f"{word} {kept} {stem[kept:]}".rstrip() if not " " in stem else [word, stem]


def rounded(values) -> list:
    return [round(v, 8) if v not in (0, 1) else int(v) for v in values]


def rouge_rows(texts, pairs, size: int):
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    plain, stemming = RougeScorer(kinds), RougeScorer(kinds, use_stemmer=True)
    for n, (i, j) in enumerate(pairs[-520 * size :]):
        # Several lines each, or ROUGE-Lsum would be ROUGE-L.
        k, l = pairs[(n * 7 + 3) % len(pairs)]
        reference, prediction = (texts[i], texts[j]) if n % 2 else (f"{texts[i]}\n{texts[k]}", f"{texts[l]}\n{texts[j]}")
        a, b = plain.score(reference, prediction), stemming.score(reference, prediction)
        yield rounded([a[kind].fmeasure for kind in kinds] + [x for kind in kinds for x in b[kind]])
    several = RougeScorer(kinds, use_stemmer=True)
    for i, j in pairs[:30]:
        best = several.score_multi([texts[j], texts[i - 1], texts[j - 1]], texts[i])
        yield {"multi": [i, j], "scores": rounded([x for kind in kinds for x in best[kind]])}


def translation_rows(rng: random.Random, texts, pairs, size: int):
    import sacrebleu

    def scores(predictions, references):
        return [sacrebleu.corpus_bleu(predictions, references).score, sacrebleu.corpus_chrf(predictions, references).score,
                sacrebleu.corpus_chrf(predictions, references, word_order=2).score]

    for i, j in pairs[-520 * size :]:
        yield {"segments": [[i, j]], "scores": [round(s, 8) for s in scores([texts[i]], [[texts[j]]])]}
    for _ in range(40 * size):
        chosen = [(*pair, rng.randrange(len(texts))) for pair in rng.sample(pairs, rng.randint(2, 12))]
        columns = [[texts[segment[n]] for segment in chosen] for n in range(3)]
        yield {"segments": chosen, "scores": scores(columns[0], columns[1:])}


def multiple_choice_rows(rng: random.Random, texts, size: int):
    from lm_eval.api.task import ConfigurableTask

    class Config:
        process_results = None

    for n in range(520 * size):
        choices = [rng.randrange(len(texts)) for _ in range(rng.randint(2, 5))]
        lls = [rng.choice([round(rng.uniform(-40, 0), 1), rng.randint(-8, 0), -2]) for _ in choices]
        free = [rng.choice([round(rng.uniform(-40, 0), 1), -2]) for _ in choices]
        gold = [rng.randrange(len(choices))] if n % 3 else sorted(rng.sample(range(len(choices)), 2))
        mutual = len(gold) == 1
        task = ConfigurableTask.__new__(ConfigurableTask)
        task.OUTPUT_TYPE, task._config, task.multiple_input, task.multiple_target = "multiple_choice", Config, False, len(gold) > 1
        task._metric_fn_list = dict.fromkeys(["acc", "acc_norm", "acc_bytes"] + ["acc_mutual_info"] * mutual)
        task.doc_to_choice = lambda doc, c=choices: [texts[i] for i in c]
        task.doc_to_target = lambda doc, g=gold: g if len(g) > 1 else g[0]
        with np.errstate(all="ignore"):
            out = task.process_results({}, [(ll, False) for ll in lls + free * mutual])
        yield [choices, lls, free if mutual else None, gold, bits(out.values())]


def perplexity_rows(rng: random.Random, texts):
    from lm_eval.api import metrics
    from lm_eval.api.task import ConfigurableTask

    words, sizes = [ConfigurableTask.count_words(t) for t in texts], [ConfigurableTask.count_bytes(t) for t in texts]
    lls = [round(-rng.uniform(0.1, 4.0) * (len(t) + 1), 2) for t in texts]
    yield {"words": words, "log_likelihoods": lls}
    for n in [1, 2, 5, 20, 100, len(texts)]:
        for _ in range(10):
            first = rng.randrange(len(texts) - n + 1)
            part = slice(first, first + n)
            by_word, by_byte = list(zip(lls[part], words[part])), list(zip(lls[part], sizes[part]))
            if sum(sizes[part]) == 0:
                continue
            values = [metrics.weighted_perplexity(by_word), metrics.weighted_perplexity(by_byte), metrics.bits_per_byte(by_byte),
                      metrics.perplexity([x / 100 for x in lls[part]])]
            if all(map(math.isfinite, values)):
                yield {"from": first, "to": first + n, "values": values}


# ----------------------------------------------------------------------------------------------------------- statistics


class ChaCha8:
    """D. J. Bernstein's ChaCha with 8 rounds, a 64-bit counter and a zero nonce: what the bootstrap draws from."""

    def __init__(self, seed: int):
        self.key, self.counter, self.words = struct.unpack("<8I", struct.pack("<Q24x", seed)), 0, []

    def block(self) -> list[int]:
        start = [*struct.unpack("<4I", b"expand 32-byte k"), *self.key, self.counter & 0xFFFFFFFF, self.counter >> 32, 0, 0]
        x = start.copy()

        def quarter(a, b, c, d):
            for p, q, r, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[p] = (x[p] + x[q]) & 0xFFFFFFFF
                y = x[r] ^ x[p]
                x[r] = (y << turn | y >> (32 - turn)) & 0xFFFFFFFF

        for _ in range(4):
            for i in range(4):
                quarter(i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        self.counter += 1
        return [(a + b) & 0xFFFFFFFF for a, b in zip(x, start)]

    def below(self, bound: int) -> int:
        while True:
            if not self.words:
                self.words = self.block()[::-1]
            product = self.words.pop() * bound
            if product & 0xFFFFFFFF >= (1 << 32) % bound:
                return product >> 32


def statistics_rows(rng: random.Random, size: int):
    import scipy.stats
    import statsmodels.api as sm
    from lm_eval.api import metrics
    from statsmodels.stats.multitest import multipletests

    for _ in range(60 * size):
        scores = [rng.choice([0.0, 1.0, round(rng.uniform(-5, 5), 3)]) for _ in range(rng.randint(2, 15))]
        clusters = [rng.randrange(4) for _ in scores]
        row = {"scores": scores, "mean": metrics.mean(scores), "stderr": metrics.mean_stderr(scores)}
        if len(set(clusters)) > 1:
            fit = sm.OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds={"groups": np.array(clusters)})
            row |= {"clusters": clusters, "clustered": float(fit.bse[0])}
        yield row
    for _ in range(120 * size):
        n = rng.choice([1, 2, 5, 10, 50, 200, 5000, 100_000])
        k = rng.choice([0, n, rng.randint(0, n)])
        confidence = rng.choice([0.95, 0.9, 0.99, 0.5])
        interval = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        yield {"successes": k, "n": n, "confidence": confidence, "wilson": [interval.low, interval.high]}
    for _ in range(120 * size):
        n = rng.choice([0, 1, 2, 9, 30, 200, 1500, 20_000])
        a = rng.choice([0, n // 2, rng.randint(0, n), int(n * 0.45)])
        p = scipy.stats.binomtest(a, n, 0.5).pvalue if n else 1.0
        yield {"only_a": a, "only_b": n - a, "p_value": float(p)}
    for _ in range(60 * size):
        ps = [rng.choice([round(rng.random() ** 3, 4), 0.04, 1.0, 0.0]) for _ in range(rng.randint(1, 8))]
        yield {"p_values": ps, "holm": multipletests(ps, method="holm")[1].tolist()}
    for n, seed, draws in [(1, 0, 20), (2, 1, 200), (7, 7, 400), (10, 2**63 + 5, 300), (100, 123456789, 150), (333, 42, 100)]:
        source = ChaCha8(seed)
        drawn = np.array([[source.below(n) for _ in range(n)] for _ in range(draws)])
        base, fused, tuned = ([float(rng.random() < p) for _ in range(n)] for p in (0.3, 0.6, 0.9))
        b, f, t = (np.array(s)[drawn].mean(axis=1) for s in (base, fused, tuned))
        ends = [0.025, 0.975]
        row = {"seed": seed, "draws": draws, "first": drawn[0][:20].tolist(), "last": drawn[-1][-20:].tolist(), "base": bits(base), "fused": bits(fused),
               "tuned": bits(tuned), "mean": np.quantile(f, ends).tolist(), "spread": float(f.std(ddof=1)), "difference": np.quantile(f - b, ends).tolist()}
        gap = np.quantile(t - b, ends)
        row["gap"] = None
        if n > 1 and not gap[0] <= 0 <= gap[1]:
            with np.errstate(all="ignore"):
                ratios = (f - b) / (t - b)
            row["gap"] = np.quantile(ratios[~np.isnan(ratios)], ends).tolist()
        yield row
    # Against an implementation with draws of its own: equal up to the noise of the draws.
    for n in (40, 150):
        scores = [round(rng.gauss(1, 2), 3) for _ in range(n)]
        theirs = scipy.stats.bootstrap((scores,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(rng.randrange(1000)))
        yield {"sample": scores, "scipy": [*map(float, theirs.confidence_interval)], "scipy_stderr": float(theirs.standard_error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triviaqa", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("metrics/tests/vectors"))
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def rng(name):
        return random.Random(f"{args.seed} {name}")

    texts, pairs = make_texts(rng("texts"), args.size)
    made = {
        "texts": write(args, "texts", texts),
        "pairs": write(args, "pairs", [pairs]),
        "filters": write(args, "filters", filter_rows(rng("filters"), texts, args.size)),
        "patterns": write(args, "patterns", pattern_rows(rng("patterns"), args.size)),
        "casing": write(args, "casing", casing_rows()),
        "exact_match": write(args, "exact_match", exact_match_rows(rng("exact_match"), texts, pairs)),
        "question_answering": write(args, "question_answering", question_answering_rows(args, texts, pairs)),
        "porter": write(args, "porter", porter_rows(rng("porter"), args.size)),
        "rouge": write(args, "rouge", rouge_rows(texts, pairs, args.size)),
        "translation": write(args, "translation", translation_rows(rng("translation"), texts, pairs, args.size)),
        "multiple_choice": write(args, "multiple_choice", multiple_choice_rows(rng("multiple_choice"), texts, args.size)),
        "perplexity": write(args, "perplexity", perplexity_rows(rng("perplexity"), texts)),
        "statistics": write(args, "statistics", statistics_rows(rng("statistics"), args.size)),
    }
    for name, rows in made.items():
        print(f"{name:20} {rows:6} rows {(args.out / f'{name}.jsonl').stat().st_size:8} bytes")


if __name__ == "__main__":
    main()
