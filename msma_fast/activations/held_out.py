"""The loss of a small model on texts it is not trained on, beside the least that a prediction without context can have:

loss = -mean_i log p(t_i | context),    entropy = -sum_v f_v log f_v,   f_v the share of token v among the t_i
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.activations.objectives import Batch


def held_out(model: Any, batches: list[Batch]) -> tuple[float, float, int]:
    """(mean cross-entropy, entropy of the tokens' own frequencies, how many) of the scored labels; nats per token."""
    total, labels = 0.0, []
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            logits, targets, scored = predicted(model, batch)
            labels.append(targets[scored])
            total += float(torch.nn.functional.cross_entropy(logits[scored], labels[-1], reduction="sum"))
    counts = torch.cat(labels).bincount().double()
    shares = counts[counts > 0] / counts.sum()
    return total / int(counts.sum()), -float((shares * shares.log()).sum()), int(counts.sum())


def predicted(model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(logits (b, m, V), the tokens they are for (b, m), which of these are scored (b, m))."""
    inputs, labels, scored = batch
    if model.config.is_encoder_decoder:
        before = model.prepare_decoder_input_ids_from_labels(labels)
        return model(input_ids=inputs, decoder_input_ids=before).logits, labels, scored
    return model(input_ids=inputs).logits[:, :-1], labels[:, 1:], scored[:, 1:]  # position i predicts token i + 1
