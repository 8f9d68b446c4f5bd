"""The metadata of a collection: what was run, on what, and how the rows were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from msma_fast._version import __version__
from msma_fast.activations.blocks import is_encoder_decoder
from msma_fast.activations.optional import require
from msma_fast.activations.probe import Probe
from msma_fast.activations.sampling import Sample


def describe(
    model: Any, wanted: Sequence[str], probed: Probe, kept: Sample, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """JSON-able; the layers in the order of `wanted`, the request's own settings repeated."""
    source = getattr(model.config, "msma_fast_source", None) or {}
    described = {
        "model": source.get("name") or model.config._name_or_path or type(model).__name__,
        "model_class": type(model).__name__,
        "revision": source.get("revision") or getattr(model.config, "_commit_hash", None),
        "quantisation": source.get("quantisation") or _quantisation(model.config),
        "model_fingerprint": asked["model"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "versions": {
            "msma_fast": __version__,
            "torch": torch.__version__,
            "transformers": require("transformers", "collecting activations").__version__,
        },
        "causal": probed.causal,
        "texts_given": kept.skipped + len(kept.texts),
        "texts_used": len(kept.texts),
        "texts_skipped": kept.skipped,
        "sampling": "every position that can be kept"
        if asked["tokens_per_text"] is None
        else "uniform over the positions of each text that can be kept, without replacement",
        "first_position_dropped": bool(asked["drop_special"] and any(probed.causal.values())),
    }
    if is_encoder_decoder(model):
        described["decoder_input"] = "the encoder's token ids, not shifted"
    settings = ("tokens_per_text", "seed", "max_length", "drop_special", "batch_size", "device", "attention")
    described |= {name: asked[name] for name in settings}
    described["layers"] = [probed.layers[name] for name in wanted]
    return described


def _quantisation(config: Any) -> str | None:
    """What the configuration says of quantised weights, as `method (n bits)` where it says that much."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    method, bits = settings.get("quant_method", "unknown method"), settings.get("bits")
    return f"{getattr(method, 'value', method)}" + (f" ({bits} bits)" if bits else "")
