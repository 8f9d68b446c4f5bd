"""A model of the same configuration with random weights: what an architecture does before it has learned anything."""

from __future__ import annotations

import copy
from typing import Any

import torch

from msma_fast import _checks
from msma_fast.activations.blocks import check_model


def untrained(model: Any, seed: int = 0) -> Any:
    """A model of the class and configuration of `model` with fresh weights, in evaluation mode.

    model -- a transformers model, which stays as it is; its weights are not read.
    seed -- of the weights, an integer >= 0. The same seed gives the same weights; torch's random state is left as it was.

    The weights are drawn on the CPU by transformers' own initialisation of the architecture, then take the dtype and device
    of the model's. config.msma_fast_source is kept, says "untrained" in its name, and has a `note` and the seed. Memory: the
    model once more, in torch's default dtype while it is drawn.

    Of a model that `train_model` made, the training's seed gives the weights it began with.

    Initialisations differ between versions of transformers, and some are not what the model was trained from: its paper or
    its code may have used another. Raises TypeError for what is not a transformers model, NotImplementedError where the
    configuration does not give a model with the same weights (quantised ones, adapters, a vocabulary resized behind its
    back).
    """
    check_model(model)
    seed = _checks.integer("seed", seed, at_least=0)
    config = copy.deepcopy(model.config)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        fresh = type(model)(config)
    drawn = _tensors(fresh)
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            if name not in drawn or drawn[name].shape != tensor.shape:
                came = tuple(drawn[name].shape) if name in drawn else "none"
                raise NotImplementedError(
                    f"model: expected a model that its configuration describes, with {name} {tuple(tensor.shape)}, "
                    f"got {came} from {type(model).__name__}(config)"
                )
            drawn[name].data = drawn[name].to(device=tensor.device, dtype=tensor.dtype)
    source = dict(getattr(model.config, "msma_fast_source", None) or {})
    name = source.get("name") or model.config._name_or_path or type(model).__name__
    fresh.config.msma_fast_source = {
        **source,
        "name": f"{name}, untrained",
        "note": "untrained",
        "untrained_seed": seed,
    }
    return fresh.eval()


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers; tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
