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
from msma_fast.msma.layer_information import ranked_by_text
from msma_fast.msma.naming import layer_names, stack_of
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.stages import Stages
from msma_fast.neighbors import knn
from msma_fast.similarity import shared_fraction

_SHOWN = 3  # tokens whose neighbours are listed, at each of the two layers
_TOGETHER = 8  # layers of a stage
_TOP = 0.1  # the share of tokens whose part of the summed trace is told

Step = Callable[[], None]


def sample_rows(text_ids: Tensor | None, n: int, count: int, seed: int) -> Tensor:
    """At most `count` of n rows, ascending: as many of one text as of another, of all texts or of `count` random ones."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    if text_ids is None:
        return order[:count].sort().values
    by_text, rank = ranked_by_text(order, text_ids)
    texts = text_ids.unique()
    each = max(1, count // texts.shape[0])
    taken = texts[torch.randperm(texts.shape[0], generator=generator)][:count]
    return by_text[(rank < each) & torch.isin(text_ids[by_text], taken)].sort().values


def readout_digest(read: Readout) -> str:
    """Of everything that the read-out computes with: finished stages must never serve another one."""
    norm = read.norm
    found = hashlib.sha256(repr((type(norm).__name__, getattr(norm, "eps", None))).encode())
    module = getattr(norm, "module", norm)  # a head's own layers before its output embedding
    if isinstance(module, torch.nn.Module):
        found.update(repr(module).encode())
        own = list(module.state_dict().values())
    else:
        own = [getattr(norm, name, None) for name in ("weight", "bias")]
    for tensor in (read.weight, read.bias, *own):
        if tensor is None:
            found.update(b"none")
        else:
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def lens_layers(acts: Activations) -> list[int]:
    """The layers that lead to the last one: of its own stack in an encoder-decoder model."""
    stacks = [stack_of(name) for name in acts.names]
    return [index for index, stack in enumerate(stacks) if stack == stacks[-1]]


def stages_of(acts: Activations) -> tuple[list[list[int]], list[int]]:
    """(the layers of each stage that measures layers, the layers whose neighbours are compared, each a stage)."""
    lens = lens_layers(acts)
    groups = [lens[start : start + _TOGETHER] for start in range(0, len(lens), _TOGETHER)]
    return groups, sorted({lens[len(lens) // 2], lens[-1]})


def fisher_geometry(
    acts: Activations, read: Readout, stages: Stages, rows: Tensor, searched: Tensor, k: int, step: Step
) -> dict[str, Any]:
    """The `fisher` section of the results: layers and steps on the rows (n,), neighbours among the rows `searched` (m,), both
    of `sample_rows`. step() is called after each stage. Where the norm before the read-out is none whose Jacobian has a closed
    form, as in BERT's head, trace and effective rank are None.

    The last layer is taken for the output of the model's last block, and the layers of its stack for those before it. The
    stages have to be this read-out's own (`readout_digest`). {"skipped": why} where the tokens are too few. Raises ValueError
    where a layer's width is not the read-out's.
    """
    texts, m = None if acts.text_ids is None else acts.text_ids[searched], searched.shape[0]
    least = m - 1 if texts is None else int(neighbor_counts(texts, 0, m).min())
    if least < k:
        return {"skipped": f"Too few tokens for Fisher-Rao neighbours: a token has {least} of other texts, k = {k}."}
    for index in lens_layers(acts):
        if acts.dims[index] != read.weight.shape[1]:
            raise ValueError(
                f"readout: expected a weight (V, {acts.dims[index]}) for layer {acts.names[index]!r}, got "
                f"{tuple(read.weight.shape)}"
            )
    groups, compared = stages_of(acts)
    layers = []
    for before, group in zip([None, *groups], groups, strict=False):
        chain = group if before is None else [before[-1], *group]
        layers.append(stages.run(f"fisher-{group[0]:03d}", partial(_layers, acts, read, rows, group, chain)))
        step()
    near = {}
    for index in compared:
        near[index] = stages.run(
            f"fisher-near-{index:03d}", partial(_neighbours, acts, read, searched, texts, index, k)
        )
        step()
    columns = {name: torch.cat([found[name] for found in layers]) for name in layers[0]}
    return _section(acts, columns, near, searched, k)


def _layers(acts: Activations, read: Readout, rows: Tensor, group: list[int], chain: list[int]) -> dict[str, Tensor]:
    """trace (g, n) and rank (g,) of the layers of a group, steps (g or g - 1, n) between those of a chain.

    Layers go together: a pass over the vocabulary costs much the same for some hundred rows as for a few."""
    states = {index: acts.layer(index)[rows].to(read.weight.device) for index in chain}
    given = {"bias": read.bias, "norm": read.norm}
    together = torch.cat([states[index] for index in group])
    found = {
        "trace": together.new_full((len(group), rows.shape[0]), float("nan")),
        "rank": torch.full((len(group),), float("nan"), dtype=torch.float64),
        "steps": together.new_empty(0, rows.shape[0]),
    }
    if _closed(read):
        found["trace"] = fisher.logit_fisher_trace(together, read.weight, **given).view(len(group), -1)
        ranks = [_rank(fisher.logit_fisher_mean(states[index], read.weight, **given)) for index in group]
        found["rank"] = torch.tensor(ranks, dtype=torch.float64)
    if len(chain) > 1:
        ends = [torch.cat([states[index] for index in part]) for part in (chain[:-1], chain[1:])]
        found["steps"] = fisher.path_lengths(ends, read.weight, **given).view(len(chain) - 1, -1)
    return {name: value.cpu() for name, value in found.items()}


def _closed(read: Readout) -> bool:
    """Whether the norm's Jacobian has a closed form, which a metric's trace and mean need."""
    return read.norm is None or isinstance(read.norm, (LayerNorm, RMSNorm, torch.nn.LayerNorm))


def _neighbours(
    acts: Activations, read: Readout, rows: Tensor, texts: Tensor | None, index: int, k: int
) -> dict[str, Tensor]:
    """fisher and euclidean (m, k) places in rows, with their distances."""
    state = acts.layer(index)[rows].to(read.weight.device)
    groups = None if texts is None else texts.to(state.device)
    alike = fisher.knn(state, read.weight, k, bias=read.bias, norm=read.norm, groups=groups)
    close = knn(rms_normalized(state), k, groups=groups)
    found = {
        "fisher": alike.indices,
        "fisher_distances": alike.distances,
        "euclidean": close.indices,
        "euclidean_distances": close.distances,
    }
    return {name: value.cpu() for name, value in found.items()}


def _rank(metric: Tensor) -> float:
    """nan where every token's distribution is one token, whose metric is zero."""
    return float(fisher.effective_rank(metric)) if bool(metric.diagonal().sum() > 0) else float("nan")


def _section(
    acts: Activations, columns: dict[str, Tensor], near: dict[int, dict[str, Tensor]], searched: Tensor, k: int
) -> dict[str, Any]:
    lens = lens_layers(acts)
    kinds = ["embedding" if layer["kind"] == "embedding" else "logit lens" for layer in layer_names(acts)]
    kinds[lens[-1]] = "Fisher"
    quartiles = [_quartiles(trace) for trace in columns["trace"]]
    steps = columns["steps"]
    path = _quartiles(steps.sum(0)) if steps.shape[0] else [None] * 3
    shown, used = _disagreements(acts, searched, near)

    def by_layer(values: list[Any], layers: list[int] = lens) -> list[Any]:
        """One for each layer of the activations, None where it was not read."""
        placed = dict(zip(layers, values, strict=True))
        return [placed.get(index) for index in range(len(acts))]

    return {
        "n": columns["trace"].shape[1],
        "n_searched": searched.shape[0],
        "k": k,
        "metric": by_layer([kinds[index] for index in lens]),
        "trace": {
            name: by_layer([found[place] for found in quartiles])
            for place, name in enumerate(("lower", "median", "upper"))
        },
        "top_tenth": by_layer([_top_share(trace) for trace in columns["trace"]]),
        "effective_rank": by_layer([float(rank) if bool(rank.isfinite()) else None for rank in columns["rank"]]),
        "steps": by_layer([_quartiles(lengths)[1] for lengths in steps], lens[1:]),
        "path": dict(zip(("lower", "median", "upper"), path, strict=True)),
        "overlap": [
            {"layer": index, "shared": shared_fraction(found["fisher"], found["euclidean"])}
            for index, found in near.items()
        ],
        "shown": shown,
        "rows": row_texts(acts, used) if shown else {},
    }


def _quartiles(values: Tensor) -> list[float | None]:
    found = values.to(torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    return [float(value) if bool(value.isfinite()) else None for value in found]


def _top_share(trace: Tensor) -> float | None:
    """The part of the summed trace that the tenth of tokens with the largest traces holds."""
    values = trace.to(torch.float64).sort(descending=True).values
    total = float(values.sum())
    return float(values[: max(1, round(_TOP * values.shape[0]))].sum()) / total if total > 0 else None


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
        common = (found["fisher"][:, :, None] == found["euclidean"][:, None, :]).sum((1, 2)).tolist()
        order = sorted(set(range(rows.shape[0])) - taken, key=lambda i: (fragment[i], common[i], i))
        for i in order[:_SHOWN]:
            taken.add(i)
            lists = {
                name: [
                    [int(rows[j]), float(length)]
                    for j, length in zip(found[name][i].tolist(), found[f"{name}_distances"][i].tolist(), strict=True)
                ]
                for name in ("fisher", "euclidean")
            }
            shown.append({"layer": index, "token": int(rows[i]), "shared": int(common[i]), **lists})
    used = {one["token"] for one in shown}
    used |= {row for one in shown for name in ("fisher", "euclidean") for row, _ in one[name]}
    return shown, used
