"""Activations of language models: kept, read from other tools, collected from transformers models."""

from msma_fast.activations.collect import collect_activations
from msma_fast.activations.embedded import load_minilm, load_model, load_smollm2, smollm2_path
from msma_fast.activations.store import Activations
from msma_fast.activations.texts import TextSet, read_texts
from msma_fast.activations.training import train_model
from msma_fast.activations.untrained import untrained

__all__ = [
    "Activations",
    "TextSet",
    "collect_activations",
    "load_minilm",
    "load_model",
    "load_smollm2",
    "read_texts",
    "smollm2_path",
    "train_model",
    "untrained",
]
