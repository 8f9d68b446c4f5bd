"""Measures of a text: how varied its words are, how long its sentences, how deep, and how they hang together.

    ttr                   distinct words / words
    distinct_2            distinct pairs of neighbouring words / pairs (Li et al., NAACL 2016, "distinct-n")
    mtld                  words per factor, a stretch over which the type-token ratio falls below 0.72; the mean of both
                          directions (McCarthy and Jarvis, Behavior Research Methods 42, 2010)
    sentence_count, mean_sentence_length (in words)
    coherence             mean cosine of neighbouring sentences' embeddings (Foltz et al. 1998 with LSA; here all-MiniLM-L6-v2)
    dependency_depth      arcs between a sentence's root and its furthest word, the deepest sentence's (spaCy)
    sentiment             VADER's compound score, in [-1, 1] (Hutto and Gilbert, ICWSM 2014)

A word is a run of letters and digits, apostrophes inside it included, in lower case. A sentence ends at . ! ? or … before
white space, and at a line break; abbreviations in a short list do not end one.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

THRESHOLD = 0.72  # of MTLD
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|\s*[\r\n]+\s*")
_ABBREVIATION = re.compile(r"\b(?:(?i:mr|mrs|ms|dr|st|prof|hon|vs|e\.g|i\.e)|[A-Z])\.$")
_BATCH = 32  # sentences in one pass of the encoder
_SENTENCE_TOKENS = 128  # the length the encoder was trained on
Measured = tuple[dict[str, list[float | None]], dict[str, str]]


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def sentences(text: str) -> list[str]:
    """The text's sentences in order; those without a word are left out."""
    found: list[str] = []
    begin = 0
    for end in _END.finditer(text):
        before = text[begin : end.start()]
        if "\n" not in end[0] and "\r" not in end[0] and _ABBREVIATION.search(before):
            continue
        found.append(text[begin : end.end()].strip())
        begin = end.end()
    return [one for one in [*found, text[begin:].strip()] if _WORD.search(one)]


def sentence_count(text: str) -> int:
    return len(sentences(text))


def mean_sentence_length(text: str) -> float | None:
    """Words; None without a sentence."""
    lengths = [len(words(one)) for one in sentences(text)]
    return sum(lengths) / len(lengths) if lengths else None


def ttr(words: Sequence[str]) -> float | None:
    """Distinct words / words; falls with the length of the text. None of no words."""
    return len(set(words)) / len(words) if words else None


def distinct_n(words: Sequence[str], n: int) -> float | None:
    """Distinct runs of n words / runs of n words; None of fewer than n words."""
    runs = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else None


def mtld(words: Sequence[str], threshold: float = THRESHOLD) -> float | None:
    """Words per factor, the mean of both directions. None of a text that repeats no word: it has no factor."""
    forward, backward = _factors(words, threshold), _factors(words[::-1], threshold)
    return (len(words) / forward + len(words) / backward) / 2 if forward > 0 and backward > 0 else None


def _factors(words: Sequence[str], threshold: float) -> float:
    """Whole factors, and of the rest the share (1 - ttr) / (1 - threshold)."""
    factors, types, count = 0.0, set[str](), 0
    for word in words:
        types.add(word)
        count += 1
        if len(types) / count < threshold:
            factors, types, count = factors + 1, set(), 0
    return factors + ((1 - len(types) / count) / (1 - threshold) if count else 0)


def coherence(texts: Sequence[str], embed: Callable[[list[str]], Tensor] | None = None) -> list[float | None]:
    """Each text's mean cosine of neighbouring sentences; None of fewer than two.

    embed -- distinct sentences -> (n, d); None: MiniLM, mean-pooled over tokens, in float32. Raises ImportError without its
    package or transformers. A high value is also that of a text that repeats itself.
    """
    split = [sentences(text) for text in texts]
    distinct = list(dict.fromkeys(one for parts in split if len(parts) > 1 for one in parts))
    if not distinct:
        return [None] * len(texts)
    rows = torch.nn.functional.normalize((embed or minilm_embeddings)(distinct).double(), dim=-1)
    row = dict(zip(distinct, rows, strict=True))
    return [
        sum(float(row[a] @ row[b]) for a, b in pairwise(parts)) / (len(parts) - 1) if len(parts) > 1 else None
        for parts in split
    ]


def minilm_embeddings(sentences: list[str]) -> Tensor:
    """(n, 384) float32: the mean of the last layer's states over a sentence's tokens."""
    model, tokenizer = _minilm()
    order = sorted(range(len(sentences)), key=lambda one: len(sentences[one]))
    rows: dict[int, Tensor] = {}
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            chosen = [sentences[one] for one in part]
            batch = tokenizer(chosen, padding=True, truncation=True, max_length=_SENTENCE_TOKENS, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            states = model(**batch).last_hidden_state
            rows |= dict(zip(part, (states * mask).sum(1) / mask.sum(1), strict=True))
    return torch.stack([rows[one] for one in range(len(sentences))])


@functools.cache
def _minilm() -> tuple[Any, Any]:
    from msma_fast.activations.embedded import load_model

    model, tokenizer, _ = load_model("minilm", dtype=torch.float32)
    return model, tokenizer


def dependency_depth(texts: Sequence[str]) -> list[float | None]:
    """The deepest word of each text, in arcs from its sentence's root. Raises ImportError without spaCy's small model."""
    parser = _spacy()

    def depth(token: Any) -> int:
        steps = 0
        while token.head.i != token.i:
            token, steps = token.head, steps + 1
        return steps

    return [max((float(depth(token)) for token in parsed), default=None) for parsed in parser.pipe(texts)]


@functools.cache
def _spacy() -> Any:
    installs = {"spacy": "pip install spacy", "en_core_web_sm": "python -m spacy download en_core_web_sm"}
    for module, command in installs.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"the package {module} is not installed: {command}")
    return importlib.import_module("en_core_web_sm").load(exclude=["ner", "lemmatizer"])


def sentiment(texts: Sequence[str]) -> list[float | None]:
    """VADER's compound score of each text; None of no words. Raises ImportError without the package vaderSentiment."""
    if importlib.util.find_spec("vaderSentiment") is None:
        raise ImportError("the package vaderSentiment is not installed: pip install vaderSentiment")
    analyzer = importlib.import_module("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
    return [float(analyzer.polarity_scores(text)["compound"]) if words(text) else None for text in texts]


def installed() -> dict[str, bool]:
    """Which packages of measures are there."""
    return {name: importlib.util.find_spec(name) is not None for name in ("spacy", "en_core_web_sm", "vaderSentiment")}


def measure_texts(texts: Sequence[str]) -> Measured:
    """(measure -> one value a text, None where a text has none; measure -> why it is missing altogether).

    Cost: MiniLM reads each distinct sentence once, about a millisecond a token on a CPU core; the rest is nothing beside it.
    Raises TypeError for a single string.
    """
    if isinstance(texts, str):
        raise TypeError("texts: expected a sequence of strings, got a string")
    split = [words(text) for text in texts]
    found: dict[str, list[float | None]] = {
        "ttr": [ttr(one) for one in split],
        "distinct_2": [distinct_n(one, 2) for one in split],
        "mtld": [mtld(one) for one in split],
        "sentence_count": [float(sentence_count(text)) for text in texts],
        "mean_sentence_length": [mean_sentence_length(text) for text in texts],
    }
    missing: dict[str, str] = {}
    for name, measure in (("coherence", coherence), ("dependency_depth", dependency_depth), ("sentiment", sentiment)):
        try:
            found[name] = measure(texts)
        except ImportError as error:
            missing[name] = str(error)
    return found, missing
