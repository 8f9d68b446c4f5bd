"""Multi-Scale Manifold Alignment (arXiv 2505.20333): maps from deeper scales of a model to shallower ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import float_tensor, wrapper_like
from msma_fast.activations import Activations
from msma_fast.activations.folder import open_tensors, write_tensors
from msma_fast.msma import scale_signals, sound_metrics
from msma_fast.msma.maps import CLOSED, Linear, moments
from msma_fast.msma.mlp_map import INFORMATION, PAPER, Learned, Residual, Weights, train
from msma_fast.msma.published_metrics import published
from msma_fast.msma.scale_names import Scales
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.sound_metrics import Held, Space, invariant, measures
from msma_fast.results import Array

MAPS = (*CLOSED, "mlp")
REPRESENTATIVES = ("medoid", "last", "mean")
_HELD = 5  # one text of so many chooses constants and ends training
_MEDOID_ROWS = 500

Progress = Callable[[str, int, int], None]
Map = Linear | Learned
Value = float | None


class Fitted(NamedTuple):
    """A map between two scales and its nulls: the same kind of map fitted to shuffled pairs (None where not asked), and the
    unpaired transport of moments (None between scales of different width)."""

    forward: Map
    shuffled: Map | None
    moments: Linear | None


class Side(NamedTuple):
    """How a scale is represented: layers, their mean (d,), the root mean square of what is left, and its leading axes."""

    layers: tuple[int, ...]
    mean: Tensor
    size: float
    space: Space

    def rows(self, acts: Activations) -> Tensor:
        """(n, d) float64."""
        first, *others = (acts.layer(layer, dtype=torch.float64) for layer in self.layers)
        return sum(others, first) / len(self.layers)

    def standard(self, rows: Tensor) -> Tensor:
        return (rows.to(torch.float64) - self.mean.to(rows.device)) / self.size

    def restored(self, rows: Tensor) -> Tensor:
        return rows * self.size + self.mean.to(rows.device)


class Checkpoint(NamedTuple):
    """Where training is kept, and the digest of its rows."""

    folder: Path
    rows: str


class Values(NamedTuple):
    """A metric of the source as it is, of the mapped source, and of the mapped source by the two nulls."""

    before: Value
    after: Value
    shuffled: Value
    moments: Value


class MapEvaluation(NamedTuple):
    """One map on n rows: `sound` (msma/sound_metrics.py) and `published` (msma/published_metrics.py) metrics by name.

    curvature: isometry_deviation, |J J^T - I|_F / sqrt(d), and hessian_norm, of the map and of its null."""

    source: str
    target: str
    n: int
    sound: dict[str, Values]
    published: dict[str, Values]
    curvature: dict[str, tuple[float, Value]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        tables = {
            name: {key: one._asdict() for key, one in getattr(self, name).items()} for name in ("sound", "published")
        }
        return self._asdict() | tables | {"curvature": {key: list(pair) for key, pair in self.curvature.items()}}


class MSMA:
    """Maps between the scales of a model, each from a scale to the next shallower one: global to intermediate (f_GI),
    intermediate to local (f_IL), of frozen activations.

    map -- "procrustes", "ridge", "low-rank" (msma/maps.py) or "mlp" (msma/mlp_map.py)
    representative -- what stands for a scale: its "medoid" (the layer with the largest mean linear CKA with the others, on
        the fitting rows), its "last" layer, or the "mean" of its layers
    geometry, information, curvature -- weights of the loss terms of "mlp", 0.1, 0.1, 0.01 by default as published; 0 leaves
        a term out. A ValueError with a closed-form map, which has none
    information_loss -- "infonce", or "mine" as published
    seed -- of the held-out texts, the shuffled pairs and the training, an integer >= 0; the same seed gives the same maps

    Rows are used as they come: layers of very different size, or with massive coordinates, are better divided by their
    root mean square first (msma.spaces.rms_normalized). Each scale is centred and divided by one number.
    """

    def __init__(
        self,
        *,
        map: str = "procrustes",
        representative: str = "medoid",
        geometry: float | None = None,
        information: float | None = None,
        curvature: float | None = None,
        information_loss: str = "infonce",
        seed: int = 0,
    ) -> None:
        self.map = _checks.choice("map", map, MAPS)
        self.representative = _checks.choice("representative", representative, REPRESENTATIVES)
        self.information_loss = _checks.choice("information_loss", information_loss, INFORMATION)
        given = {"geometry": geometry, "information": information, "curvature": curvature}
        if map != "mlp":
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"{name}: expected None, as the map {map!r} has no loss terms, got {value!r}")
            if information_loss != "infonce":
                raise ValueError(f"information_loss: expected the map 'mlp' with it, got {map!r}")
        self.weights = Weights(
            *(
                getattr(PAPER, name) if value is None else _checks.number(name, value, at_least=0.0)
                for name, value in given.items()
            )
        )
        self.seed = _checks.integer("seed", seed, at_least=0)
        self._sides: list[Side] = []
        self._maps: dict[tuple[int, int], Fitted] = {}
        self._scales: Scales | None = None

    # -- fitting --------------------------------------------------

    def fit(
        self,
        acts: Any,
        partition: ScalePartition | Sequence[tuple[int, int]],
        *,
        nulls: bool = True,
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> MSMA:
        """Fits every map to paired rows, and returns self.

        acts -- Activations, or a list of (n, d_l) arrays in order of depth; computed where they lie, on any torch device
        partition -- of `find_scales`, `.thirds()` or `.fixed(...)`, or ranges (first, last) of layers
        nulls -- whether to fit the same kind of map to shuffled pairs as well, for `evaluate`, at the same cost
        progress -- called with ("maps", done, all)
        checkpoint -- a folder: training of "mlp" goes on from there when it was interrupted, and ends the same

        One text of five is held out to choose constants and to end training; then closed-form maps are fitted to all rows.
        Without text ids these are rows. Cost: a few n d^2 and d^3 in float64 a map, twice for the shuffled pairs; "mlp"
        trains at most 40 epochs. Raises ValueError / TypeError for a partition without a pair of scales, one of other
        layers, fewer than 10 rows, and rows that are not finite.
        """
        layers = scale_signals.activations(acts)
        if layers.n_tokens < 10:
            raise ValueError(f"acts: expected at least 10 rows, got {layers.n_tokens}")
        self._scales = Scales.of(partition, layers.names)
        self._maps = {}
        generator = torch.Generator().manual_seed(self.seed)
        held = self._held_out(layers, generator)
        self._sides = [self._side(layers, span) for span in self._scales.ranges]
        shuffle = torch.randperm(layers.n_tokens, generator=generator)
        pairs = self._scales.pairs()
        for done, (source, target) in enumerate(pairs):
            if progress is not None:
                progress("maps", done, len(pairs))
            raw = [self._sides[one].rows(layers) for one in (source, target)]
            x, y = (self._sides[one].standard(rows) for one, rows in zip((source, target), raw, strict=True))
            mask = held.to(x.device)
            kept = None if checkpoint is None else Checkpoint(Path(checkpoint), _digest(raw))
            self._maps[source, target] = Fitted(
                self._fit(x, y, mask, kept, f"{source}-{target}"),
                self._fit(x, y[shuffle.to(y.device)], mask, kept, f"{source}-{target}-shuffled") if nulls else None,
                moments(x, y, mask) if x.shape[1] == y.shape[1] else None,
            )
        if progress is not None:
            progress("maps", len(pairs), len(pairs))
        return self

    def _fit(self, x: Tensor, y: Tensor, held: Tensor, checkpoint: Checkpoint | None, name: str) -> Map:
        if self.map != "mlp":
            return CLOSED[self.map](x, y, held)
        path, resume = None, None
        asked: dict[str, Any] = {}
        if checkpoint is not None:
            path = checkpoint.folder / f"{name}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            asked = {"weights": list(self.weights), "information": self.information_loss, "seed": self.seed}
            asked |= {"rows": checkpoint.rows}
            if path.exists():
                kept = torch.load(path, weights_only=True, map_location="cpu")
                if kept["asked"] != asked:
                    raise ValueError(
                        f"checkpoint: expected {asked} in {path}, got {kept['asked']}: other rows or settings"
                    )
                resume = kept["state"]

        def keep(state: dict[str, Any]) -> None:
            if path is not None:
                half = path.with_suffix(".part")
                torch.save({"asked": asked, "state": state}, half)
                os.replace(half, path)

        return train(
            x, y, held, self.weights,
            information=self.information_loss, seed=self.seed, resume=resume, after_epoch=keep,
        )  # fmt: skip

    def _held_out(self, acts: Activations, generator: torch.Generator) -> Tensor:
        """(n,) bool: the rows of every fifth text, or every fifth row, in random order."""
        ids = torch.arange(acts.n_tokens) if acts.text_ids is None else acts.text_ids.cpu()
        texts = ids.unique()
        if len(texts) < _HELD:
            ids, texts = torch.arange(acts.n_tokens), torch.arange(acts.n_tokens)
        chosen = texts[torch.randperm(len(texts), generator=generator)[: len(texts) // _HELD]]
        return torch.isin(ids, chosen)

    def _side(self, acts: Activations, span: tuple[int, int]) -> Side:
        layers = tuple(range(span[0], span[1] + 1))
        if self.representative == "last":
            layers = layers[-1:]
        elif self.representative == "medoid":
            layers = (_medoid(acts, layers),)
        if len({acts.dims[layer] for layer in layers}) > 1:
            raise ValueError(
                f"acts: expected layers {span[0]} to {span[1]} of one width, got {acts.dims[span[0] : span[1] + 1]}"
            )
        bare = Side(layers, torch.zeros(()), 1.0, Space(torch.zeros(0, 0), 1.0))
        rows = bare.rows(acts)
        if not bool(rows.isfinite().all()):
            raise ValueError(f"acts: expected finite values, got NaN or inf in layers {span[0]} to {span[1]}")
        mean = rows.mean(0)
        centered = rows - mean
        size = float(centered.square().mean().sqrt())
        if size == 0.0:
            raise ValueError(f"acts: expected rows that differ, got one row repeated in layers {span[0]} to {span[1]}")
        return Side(layers, mean, size, Space.of(centered / size))

    # -- using --------------------------------------------------

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales' names, shallow ones first; "encoder local" and so on of two stacks."""
        return self._known().names

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(source, target) of every map, in the order of `evaluate`."""
        known = self._known()
        return [(known.names[source], known.names[target]) for source, target in known.pairs()]

    @property
    def representatives(self) -> dict[str, tuple[int, ...]]:
        """The layers that stand for each scale."""
        return {name: side.layers for name, side in zip(self._known().names, self._sides, strict=True)}

    def _known(self) -> Scales:
        if self._scales is None:
            raise ValueError("MSMA: expected a fitted one, got one before fit or load")
        return self._scales

    def transform(self, x: Array, *, source: str | int, target: str | int) -> Array:
        """Rows x (n, d) of the source's representative, as rows (n, e) of the target's; the same kind, dtype and device.

        source and target are scales' names or numbers; from a scale to any shallower one of its stack, by one map after
        another. Raises ValueError / TypeError for other scales, other widths, NaN and inf, and before `fit`.
        """
        known, rows = self._known(), float_tensor("x", x)
        path = known.path(source, target)
        first = self._sides[path[0]]
        if rows.ndim != 2 or rows.shape[1] != len(first.mean):
            raise ValueError(
                f"x: expected rows (n, {len(first.mean)}) of {known.names[path[0]]}, got {tuple(rows.shape)}"
            )
        if not bool(rows.isfinite().all()):
            raise ValueError("x: expected finite values, got NaN or inf")
        found = first.standard(rows)
        for pair in pairwise(path):
            found = self._maps[pair].forward(found)
        restored = self._sides[path[-1]].restored(found).to(rows.dtype)
        return wrapper_like(x)(restored)

    def evaluate(self, acts: Any) -> list[MapEvaluation]:
        """Every map on rows of other texts than it was fitted to, in the order global to intermediate, then to local.

        acts: the same layers as fitted, at least 50 rows. Published metrics compare rows in their own units, sound ones
        centred rows of one size. Cost a second or two a map and 2,000 rows. Raises ValueError / TypeError for other layers,
        too few rows, NaN and inf, and before `fit`.
        """
        known, layers = self._known(), scale_signals.activations(acts)
        if len(layers) != known.n_layers:
            raise ValueError(f"acts: expected {known.n_layers} layers as fitted, got {len(layers)}")
        if layers.n_tokens < 50:
            raise ValueError(f"acts: expected at least 50 rows, got {layers.n_tokens}")
        return [self._evaluate(layers, source, target) for source, target in known.pairs()]

    def _evaluate(self, acts: Activations, source: int, target: int) -> MapEvaluation:
        one, other, fitted = self._sides[source], self._sides[target], self._maps[source, target]
        raw = one.rows(acts), other.rows(acts)
        x, y = one.standard(raw[0]), other.standard(raw[1])
        held = Held(y, other.space, acts.text_ids)
        z = one.space.project(x)

        def image(mapped: Callable[[Tensor], Tensor]) -> Tensor:
            return other.space.project(mapped(one.space.restore(z)))

        found = {
            name: None if each is None else measures(each(x), image(each), held)
            for name, each in fitted._asdict().items()
        }
        after = found["forward"] or {}
        alike = x.shape[1] == y.shape[1]
        rows = held.some()
        before: dict[str, float] = (
            measures(x, z, held)
            if alike
            else invariant(x[rows], y[rows], held.texts_of(rows)) | {"mi": sound_metrics.information(z, held)}
        )
        known = self._known()
        bare = published(*raw)
        stated = {
            name: None if each is None else published(other.restored(each(x)), raw[1])
            for name, each in fitted._asdict().items()
        }
        return MapEvaluation(
            known.names[source],
            known.names[target],
            acts.n_tokens,
            {name: _values(name, before, found) for name in after},
            {name: _values(name, bare, stated) for name in bare},
            {name: self._bent(fitted, name, x) for name in ("isometry_deviation", "hessian_norm")},
        )

    def _bent(self, fitted: Fitted, name: str, x: Tensor) -> tuple[float, Value]:
        own, null = fitted.forward, fitted.shuffled
        return getattr(own, name)(x, self.seed), None if null is None else getattr(null, name)(x, self.seed)

    # -- keeping --------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a folder with maps.safetensors and msma.json. Raises FileExistsError where one is there already."""
        known, folder = self._known(), Path(path)
        if (folder / "msma.json").exists():
            raise FileExistsError(f"path: expected a folder without a saved MSMA, got {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for number, side in enumerate(self._sides):
            tensors |= {f"side.{number}.mean": side.mean, f"side.{number}.axes": side.space.axes}
        maps: dict[str, Any] = {}
        for (source, target), fitted in self._maps.items():
            for name, each in fitted._asdict().items():
                if each is not None:
                    key = f"map.{source}.{target}.{name}"
                    maps[key] = each.chosen
                    parts = {"weight": each.weight} if isinstance(each, Linear) else each.module.state_dict()
                    tensors |= {f"{key}.{part}": value for part, value in parts.items()}
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_tensors(folder / "maps.safetensors", kept)
        about = {
            "format": "msma_fast.msma/1",
            "map": self.map,
            "representative": self.representative,
            "weights": list(self.weights),
            "information_loss": self.information_loss,
            "seed": self.seed,
            "scales": known.to_dict(),
            "sides": [
                {"layers": list(side.layers), "size": side.size, "space": side.space.size} for side in self._sides
            ],
            "maps": maps,
        }
        (folder / "msma.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MSMA:
        """What `save` wrote, on the CPU. Raises FileNotFoundError, and ValueError for another format."""
        folder = Path(path)
        about = json.loads((folder / "msma.json").read_text(encoding="utf-8"))
        if about.get("format") != "msma_fast.msma/1":
            raise ValueError(f"path: expected the format msma_fast.msma/1 in {folder}, got {about.get('format')!r}")
        mlp = about["map"] == "mlp"
        own = dict(zip(Weights._fields, about["weights"], strict=True)) if mlp else {}
        found = cls(map=about["map"], representative=about["representative"],
                    information_loss=about["information_loss"], seed=about["seed"], **own)  # fmt: skip
        with open_tensors(folder / "maps.safetensors") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found._scales = Scales.from_dict(about["scales"])
        found._sides = [
            Side(tuple(one["layers"]), tensors[f"side.{number}.mean"], one["size"],
                 Space(tensors[f"side.{number}.axes"], one["space"]))
            for number, one in enumerate(about["sides"])
        ]  # fmt: skip

        def restored(key: str) -> Map | None:
            if key not in about["maps"]:
                return None
            parts = {name.rpartition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{key}.")}
            if set(parts) == {"weight"}:
                return Linear(parts["weight"], about["maps"][key])
            module = Residual(parts["linear"], parts["bias"].shape[0], torch.Generator())
            module.load_state_dict(parts)
            return Learned(module, about["maps"][key])

        for source, target in found._scales.pairs():
            each = {name: restored(f"map.{source}.{target}.{name}") for name in Fitted._fields}
            found._maps[source, target] = Fitted(**each)  # type: ignore[arg-type]
        return found


def _digest(rows: Sequence[Tensor]) -> str:
    """Of the numbers themselves."""
    found = hashlib.sha256()
    for each in rows:
        found.update(each.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _medoid(acts: Activations, layers: tuple[int, ...]) -> int:
    """The first of those most like the others: linear CKA is the cosine of the centred rows' inner products."""
    step = -(-acts.n_tokens // _MEDOID_ROWS)
    products = []
    for layer in layers:
        rows = acts.layer(layer)[::step]
        rows = rows - rows.mean(0)
        products.append(torch.nn.functional.normalize((rows @ rows.T).flatten(), dim=0))
    alike = torch.stack(products)
    return layers[int((alike @ alike.T).sum(1).argmax())]


def _values(name: str, before: dict[str, Any], found: dict[str, Any]) -> Values:
    def of(each: dict[str, Any] | None) -> Value:
        return None if each is None or each.get(name) is None else float(each[name])

    return Values(of(before), *(of(found[each]) for each in ("forward", "shuffled", "moments")))
