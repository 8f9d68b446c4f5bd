"""Multi-Scale Manifold Alignment (arXiv 2505.20333): maps from deeper scales of a model to shallower ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from msma_fast import _checks
from msma_fast._arrays import float_tensor, wrapper_like
from msma_fast.msma import alignment_files, scale_signals
from msma_fast.msma.evaluation import Ground, MapEvaluation
from msma_fast.msma.fitting import MAPS, Fitted, Frame, Pair, Recipe, representatives
from msma_fast.msma.mlp_map import INFORMATION, PAPER, Weights
from msma_fast.msma.scale_names import Scales
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.sides import REPRESENTATIVES, Side
from msma_fast.results import Array

Progress = Callable[[str, int, int], None]


class MSMA:
    """Maps between the scales of a model, each from a scale to the next shallower one: global to intermediate (f_GI),
    intermediate to local (f_IL), of frozen activations.

    map -- "procrustes", "ridge", "low-rank" (msma/maps.py) or "mlp" (msma/mlp_map.py)
    representative -- what stands for a scale: its "medoid" (the layer with the largest mean linear CKA with the others, on
        the fitting rows), its "last" layer, or the "mean" of its layers
    geometry, information, curvature, pairs -- weights of the loss terms of "mlp", 0.1, 0.1, 0.01 by default as published,
        and 1 for the error of the pairs, which the published loss does not have; 0 leaves a term out. A ValueError with a
        closed-form map, which has none
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
        pairs: float | None = None,
        information_loss: str = "infonce",
        seed: int = 0,
    ) -> None:
        self.map = _checks.choice("map", map, MAPS)
        self.representative = _checks.choice("representative", representative, REPRESENTATIVES)
        self.information_loss = _checks.choice("information_loss", information_loss, INFORMATION)
        given = {"geometry": geometry, "information": information, "curvature": curvature, "pairs": pairs}
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
        self._maps: dict[Pair, Fitted] = {}
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
            with float64
        partition -- of `find_scales`, `.thirds()` or `.fixed(...)`, or ranges (first, last) of layers
        nulls -- whether to fit the same kind of map to shuffled pairs as well, for `evaluate`, at the same cost
        progress -- called with ("maps", done, all)
        checkpoint -- a folder: training of "mlp" goes on from there when it was interrupted, and ends the same

        One text of five is held out to choose constants and to end training; then closed-form maps are fitted to all rows.
        Without text ids these are rows. Cost: a few n d^2 and d^3 in float64 a map, twice for the shuffled pairs; "mlp"
        trains at most 10 epochs. Raises ValueError / TypeError for a partition without a pair of scales, one of other
        layers, fewer than 10 rows, and rows that are not finite.
        """
        layers = scale_signals.activations(acts)
        if layers.n_tokens < 10:
            raise ValueError(f"acts: expected at least 10 rows, got {layers.n_tokens}")
        scales = Scales.of(partition, layers.names)
        frame = Frame(layers, representatives(layers, scales, self.representative), self.seed)
        recipe = Recipe(self.map, self.weights, self.information_loss, self.seed)
        folder, pairs = None if checkpoint is None else Path(checkpoint), scales.pairs()
        maps: dict[Pair, Fitted] = {}
        for pair in pairs:
            if progress is not None:
                progress("maps", len(maps), len(pairs))
            maps[pair] = frame.fit(pair, recipe, nulls=nulls, checkpoint=folder)
        if progress is not None:
            progress("maps", len(pairs), len(pairs))
        self._scales, self._sides, self._maps = scales, frame.sides, maps
        return self

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
        found = []
        for source, target in known.pairs():
            fitted = self._maps[source, target]
            ground = Ground(self._sides[source], self._sides[target], layers, fitted.moments)
            found.append(
                MapEvaluation(
                    known.names[source],
                    known.names[target],
                    layers.n_tokens,
                    ground.sound(fitted),
                    ground.published(fitted),
                    ground.curvature(fitted, self.seed),
                )
            )
        return found

    # -- keeping --------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a folder with maps.safetensors and msma.json. Raises FileExistsError where one is there already."""
        folder = Path(path)
        settings = {"map": self.map, "representative": self.representative, "seed": self.seed}
        if self.map == "mlp":
            settings |= {"information_loss": self.information_loss, **self.weights._asdict()}
        alignment_files.write(folder, settings, self._known(), self._sides, self._maps)
        return folder

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MSMA:
        """What `save` wrote, on the CPU. Raises FileNotFoundError, and ValueError for another format."""
        settings, scales, sides, maps = alignment_files.read(Path(path))
        found = cls(**settings)
        found._scales, found._sides, found._maps = scales, sides, maps
        return found
