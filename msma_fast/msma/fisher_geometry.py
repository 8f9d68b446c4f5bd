"""How the model's read-out sees its own layers: Fisher metric, Fisher-Rao steps through depth, Fisher-Rao neighbours.

A state h is read as the token distribution p = softmax(W norm(h) + b), and G(h) is the Fisher metric of p pulled back to h
(Amari, Nagaoka 2000; formulas in msma_fast/fisher). Only the last block's output is read so by the model itself: there the
metric is called Fisher. On every layer before it the read-out is a logit lens (nostalgebraist 2020): logit-lens Fisher.

    trace           of G(h), the variance of the token's row under p, seen from h: quartiles over tokens
    effective rank  of the mean of G over tokens (Roy, Vetterli 2007)
    step            Fisher-Rao distance of a token's distributions before and after a block (Rao 1945), at most pi; their sum
                    over blocks is the length of the token's path
    neighbours      the nearest tokens by Fisher-Rao distance, beside the euclidean ones of RMS-normalised rows
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msma_fast import fisher
from msma_fast.activations import Activations
from msma_fast.diagnostics import neighbor_counts
from msma_fast.fisher import LayerNorm, Readout, RMSNorm
from msma_fast.msma.explorer import row_texts, wordy
from msma_fast.msma.naming import layer_names
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.stages import Stages
from msma_fast.neighbors import knn
from msma_fast.similarity import shared_fraction

_SHOWN = 3  # tokens whose neighbours are listed, at each of the two layers
_TOP = 0.1  # the share of tokens whose part of the summed trace is told

Step = Callable[[], None]


def sample_rows(text_ids: Tensor | None, n: int, count: int, seed: int) -> Tensor:
    """At most `count` of n rows, ascending: as many of one text as of another, of all texts or of `count` random ones."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    if text_ids is None:
        return order[:count].sort().values
    by_text = order[text_ids[order].argsort(stable=True)]
    same = text_ids[by_text]
    rank = torch.arange(n) - torch.searchsorted(same, same)  # of a row within its text, in random order
    texts = same.unique()
    each = max(1, count // texts.shape[0])
    taken = texts[torch.randperm(texts.shape[0], generator=generator)][:count]
    return by_text[(rank < each) & torch.isin(same, taken)].sort().values


def readout_digest(read: Readout) -> str:
    """Of everything that the read-out computes with: finished stages must never serve another one."""
    found = hashlib.sha256(repr((type(read.norm).__name__, getattr(read.norm, "eps", None))).encode())
    for tensor in (read.weight, read.bias, getattr(read.norm, "weight", None), getattr(read.norm, "bias", None)):
        if tensor is None:
            found.update(b"none")
        else:
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def lens_layers(acts: Activations) -> list[int]:
    """The layers that lead to the last one: of its own stack in an encoder-decoder model."""
    stacks = [prefix if number.isdigit() else "" for prefix, _, number in (name.rpartition(".") for name in acts.names)]
    return [index for index, stack in enumerate(stacks) if stack == stacks[-1]]


def fisher_geometry(
    acts: Activations, read: Readout, stages: Stages, rows: Tensor, k: int, step: Step
) -> dict[str, Any]:
    """The `fisher` section of the results, of the rows (n,) of `sample_rows`. step() is called after each layer that is read.

    The last layer is taken for the output of the model's last block, and the layers of its stack for those before it. The
    stages have to be this read-out's own (`readout_digest`). {"skipped": why} where the norm has no closed form, or the
    tokens are too few. Raises ValueError where a layer's width is not the read-out's.
    """
    norm = read.norm
    if not (norm is None or isinstance(norm, (LayerNorm, RMSNorm, torch.nn.LayerNorm))):
        return {
            "skipped": "The Fisher metric of a layer needs a LayerNorm or an RMSNorm before the output embedding; this "
            f"read-out has a {type(norm).__name__} there."
        }
    texts = None if acts.text_ids is None else acts.text_ids[rows]
    n = rows.shape[0]
    least = n - 1 if texts is None else int(neighbor_counts(texts, 0, n).min())
    if least < k:
        return {"skipped": f"Too few tokens for Fisher-Rao neighbours: a token has {least} of other texts, k = {k}."}
    lens = lens_layers(acts)
    for index in lens:
        if acts.dims[index] != read.weight.shape[1]:
            raise ValueError(
                f"readout: expected a weight (V, {acts.dims[index]}) for layer {acts.names[index]!r}, got "
                f"{tuple(read.weight.shape)}"
            )
    compared = sorted({lens[len(lens) // 2], lens[-1]})

    def measure(index: int, before: int | None) -> dict[str, Tensor]:
        state = _state(acts, index, rows, read)
        given = {"bias": read.bias, "norm": norm}
        metric = fisher.logit_fisher_mean(state, read.weight, **given)
        found = {
            "trace": fisher.logit_fisher_trace(state, read.weight, **given),
            "rank": torch.tensor(_rank(metric), dtype=torch.float64),
        }
        if before is not None:
            pair = [_state(acts, before, rows, read), state]
            found["step"] = fisher.path_lengths(pair, read.weight, **given)[0]
        if index in compared:
            groups = None if texts is None else texts.to(state.device)
            near = fisher.knn(state, read.weight, k, groups=groups, **given)
            plain = knn(rms_normalized(state), k, groups=groups)
            found |= {"near": near.indices, "far": near.distances, "plain": plain.indices, "plain_far": plain.distances}
        return {name: value.cpu() for name, value in found.items()}

    layers: dict[int, dict[str, Tensor]] = {}
    for before, index in zip([None, *lens], lens, strict=False):
        layers[index] = stages.run(f"fisher-{index:03d}", partial(measure, index, before))
        step()
    return _section(acts, rows, layers, compared, k)


def _state(acts: Activations, index: int, rows: Tensor, read: Readout) -> Tensor:
    return acts.layer(index)[rows].to(read.weight.device)


def _rank(metric: Tensor) -> float:
    """nan where every token's distribution is one token, whose metric is zero."""
    return float(fisher.effective_rank(metric)) if bool(metric.diagonal().sum() > 0) else float("nan")


def _section(
    acts: Activations, rows: Tensor, layers: dict[int, dict[str, Tensor]], compared: list[int], k: int
) -> dict[str, Any]:
    last, count = compared[-1], len(acts)
    kinds = ["embedding" if layer["kind"] == "embedding" else "logit lens" for layer in layer_names(acts)]
    quartiles = {index: _quartiles(found["trace"]) for index, found in layers.items()}
    steps = [found["step"] for found in layers.values() if "step" in found]
    path = _quartiles(torch.stack(steps).sum(0)) if steps else [None] * 3
    shown, used = _disagreements(acts, rows, {index: layers[index] for index in compared})
    return {
        "n": rows.shape[0],
        "k": k,
        "metric": [None if i not in layers else "Fisher" if i == last else kinds[i] for i in range(count)],
        "trace": {
            name: [quartiles[i][place] if i in layers else None for i in range(count)]
            for place, name in enumerate(("lower", "median", "upper"))
        },
        "top_tenth": [_top_share(layers[i]["trace"]) if i in layers else None for i in range(count)],
        "effective_rank": [_finite(layers[i]["rank"]) if i in layers else None for i in range(count)],
        "steps": [
            _quartiles(layers[i]["step"])[1] if i in layers and "step" in layers[i] else None for i in range(count)
        ],
        "path": dict(zip(("lower", "median", "upper"), path, strict=True)),
        "overlap": [
            {"layer": index, "shared": shared_fraction(layers[index]["near"], layers[index]["plain"])}
            for index in compared
        ],
        "shown": shown,
        "rows": row_texts(acts, used) if shown else {},
    }


def _quartiles(values: Tensor) -> list[float | None]:
    found = values.to(torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    return [float(value) for value in found]


def _top_share(trace: Tensor) -> float | None:
    """The part of the summed trace that the tenth of tokens with the largest traces holds."""
    values = trace.to(torch.float64).sort(descending=True).values
    total = float(values.sum())
    return float(values[: max(1, round(_TOP * values.shape[0]))].sum()) / total if total > 0 else None


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None


def _disagreements(
    acts: Activations, rows: Tensor, compared: dict[int, dict[str, Tensor]]
) -> tuple[list[dict[str, Any]], set[int]]:
    """The tokens with the fewest common neighbours at each layer, words before fragments, none twice; and every row named."""
    tokens = acts.tokens
    if tokens is None or acts.before is None or acts.after is None:
        return [], set()
    fragment = [not wordy(tokens[int(row)]) for row in rows]
    shown: list[dict[str, Any]] = []
    taken: set[int] = set()
    for index, found in compared.items():
        common = (found["near"][:, :, None] == found["plain"][:, None, :]).sum((1, 2)).tolist()
        order = sorted(set(range(rows.shape[0])) - taken, key=lambda i: (fragment[i], common[i], i))
        for i in order[:_SHOWN]:
            taken.add(i)
            lists = {
                name: [
                    [int(rows[j]), float(length)]
                    for j, length in zip(found[near][i].tolist(), found[far][i].tolist(), strict=True)
                ]
                for name, near, far in (("fisher", "near", "far"), ("euclidean", "plain", "plain_far"))
            }
            shown.append({"layer": index, "token": int(rows[i]), "shared": int(common[i]), **lists})
    used = {one["token"] for one in shown}
    used |= {row for one in shown for name in ("fisher", "euclidean") for row, _ in one[name]}
    return shown, used
