"""`collect_activations`: the states of a transformers model at sampled positions of many texts.

Texts are cut into shards of consecutive texts; inside a shard they run in batches of similar length. Rows are
stored by text, then position, whatever the batches were. With a path each shard is a file, written whole or
not at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from msma_fast._checks import integer
from msma_fast.activations import attention, blocks, doors, folder, job, request, sampling
from msma_fast.activations.describe import describe
from msma_fast.activations.layers import MemoryLayer
from msma_fast.activations.probe import PROBE_TOKENS, probe
from msma_fast.activations.row_text import RowText
from msma_fast.activations.store import Activations

_BATCH_SIZE = 16  # a 135M model ran as fast with 8, 16 and 32 on two AVX-512 cores; 16 leaves room for larger models


def collect_activations(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    path: str | os.PathLike[str] | None = None,
    layers: Any = "all",
    tokens_per_text: int | None = 32,
    seed: int = 0,
    max_length: int = 256,
    batch_size: int | None = None,
    drop_special: bool = True,
    attention_span: bool = False,
    progress: job.Progress | None = None,
) -> Activations:
    """Hidden states at random positions of many texts, in the model's dtype.

    Layer 0 is the input of the first block (the embedding); layer l is the state after block l, before any
    final norm. Layers are called layer.0 ... layer.L; in encoder-decoder models encoder.0 ... and decoder.0
    ..., where the decoder reads the encoder's own token ids, so that a row is the same token in both.

    model -- a transformers model (with its tokenizer), or what `load_model` takes (the tokenizer may then be
        None)
    texts -- a sequence of strings; text_ids of the result index it
    path -- a folder to write to, shard by shard. A run that was killed continues where it was when called
        again with the same arguments, and gives the same bytes; a finished folder is just loaded
    layers -- "all", or indices (into all the names, negative from the end) and names; kept in the order of
        depth. The forward pass ends after the last of them
    tokens_per_text -- positions sampled from each text, equally many; a text with fewer is skipped and
        counted in metadata["texts_skipped"]. None keeps every position
    seed -- of the sampling; the positions depend on it and on the text's place alone
    max_length -- tokens a text is cut to, special ones included
    batch_size -- texts in one forward pass; None means 16
    drop_special -- leave out special tokens and, in models with a causal stack, the first position: a token
        that sees only itself, on which many models have states of a hundred times the usual norm. Padding is
        never kept
    attention_span -- also store metadata["attention_span"][layer][head], the mean over kept positions i of
        sum_j a_ij |i - j|, in tokens; the whole pass then runs under eager attention
    progress -- called as progress(done, total), in texts, after every batch

    Raises TypeError and ValueError for the arguments, ValueError where `path` holds another request (saying
    what differs), NotImplementedError for a model whose blocks cannot be found.
    """
    texts = _check_texts(texts)
    tokens_per_text = None if tokens_per_text is None else integer("tokens_per_text", tokens_per_text, at_least=1)
    seed = integer("seed", seed, at_least=0)
    max_length = integer("max_length", max_length, at_least=2)
    batch_size = _BATCH_SIZE if batch_size is None else integer("batch_size", batch_size, at_least=1)
    model, tokenizer = _load(model, tokenizer)
    with _ready(model, eager=attention_span):
        stacks = blocks.find_stacks(model)
        wanted = _wanted(layers, [name for stack in stacks for name in stack.names])
        encoded = sampling.encode(tokenizer, texts, max_length)
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
        longest = _check_ids(encoded, vocabulary, blocks.position_limit(model))
        probed = probe(model, stacks, longest, vocabulary)
        special = set(tokenizer.all_special_ids)
        kept = sampling.sample(
            encoded,
            special,
            tokens_per_text=tokens_per_text,
            seed=seed,
            drop_special=drop_special,
            causal=any(probed.causal.values()),
        )
        asked = {
            "model": request.model_fingerprint(model),
            "texts": request.texts_digest(texts),
            "token_ids": request.tokens_digest(encoded),
            "layers": wanted,
            "tokens_per_text": tokens_per_text,
            "seed": seed,
            "max_length": max_length,
            "drop_special": bool(drop_special),
            "attention_span": bool(attention_span),
            "batch_size": batch_size,
            "device": model.get_input_embeddings().weight.device.type,
            "attention": str(model.config._attn_implementation),
            "torch": torch.__version__,
        }
        metadata = describe(model, wanted, probed, kept, asked)
        found = attention.find_attention(model, stacks, wanted, longest[:PROBE_TOKENS]) if attention_span else None
        work = job.Job(model, stacks, metadata["layers"], kept, blocks.padding_id(model, tokenizer), batch_size, found)
        ids = sampling.row_ids(kept, special)
        rows = sampling.row_text(kept, tokenizer, special)
        if path is None:
            values, sums = work.in_memory(progress)
            metadata |= _mean_spans(wanted, sums, kept.n_rows) if attention_span else {}
            columns = RowText.from_rows(rows)
            return Activations(
                [MemoryLayer(values[name]) for name in wanted],
                wanted,
                ids=ids,
                row_text=columns,
                metadata=metadata,
            )
        target = Path(path)
        if not job.begin(target, asked, kept.n_rows, metadata):
            folder.remove_leftovers(target)
            folder.write_tensors(target / folder.ROWS, ids)
            folder.write_row_text(target, rows)
            shards, sums = work.on_disk(target, progress)
            metadata |= _mean_spans(wanted, sums, kept.n_rows) if attention_span else {}
            manifest = {"complete": True, "request": asked, "n_tokens": kept.n_rows, "shards": shards}
            folder.write_manifest(target, manifest | {"metadata": metadata})
        elif progress is not None:
            progress(len(kept.texts), len(kept.texts))
    return Activations.load(target)


def _check_texts(texts: Any) -> list[str]:
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
        raise TypeError(f"texts: expected a sequence of strings, got {type(texts).__name__}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}]: expected a string, got {type(text).__name__}")
    if not texts:
        raise ValueError("texts: expected at least one text, got none")
    return list(texts)


def _load(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    if isinstance(model, (str, os.PathLike)):
        from msma_fast.activations.embedded import load_model

        loaded, own, _ = load_model(model)
        return loaded, own if tokenizer is None else tokenizer
    blocks.check_model(model)
    if tokenizer is None or not callable(tokenizer) or not hasattr(tokenizer, "all_special_ids"):
        raise TypeError(
            "tokenizer: expected the tokenizer of the model (None only where the model is given by name), "
            f"got {type(tokenizer).__name__}"
        )
    return model, tokenizer


@contextlib.contextmanager
def _ready(model: Any, *, eager: bool) -> Iterator[None]:
    """The model in evaluation mode, on eager attention if asked, and afterwards as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with attention.eager_attention(model) if eager else contextlib.nullcontext():
            yield
    finally:
        for module in training:
            module.training = True


def _wanted(layers: Any, names: list[str]) -> list[str]:
    """The chosen names in the order of depth."""
    if isinstance(layers, str) and layers == "all":
        return names
    chosen = set()
    for item in doors.sequence(layers):
        if isinstance(item, str) and item not in names:
            raise ValueError(f"layers: expected 'all', indices, or names from {names[0]} to {names[-1]}, got {item!r}")
        chosen.add(item if isinstance(item, str) else names[doors.index("layers", item, len(names))])
    if not chosen:
        raise ValueError("layers: expected 'all' or at least one layer, got none")
    return [name for name in names if name in chosen]


def _check_ids(encoded: Sequence[sampling.Encoded], vocabulary: int, limit: int | None) -> list[int]:
    """The longest text's ids. Raises ValueError where the tokens do not fit the model."""
    longest = max((text.ids for text in encoded), key=len)
    if len(longest) < 2:
        raise ValueError(f"texts: expected at least one text of two tokens or more, got at most {len(longest)}")
    if limit is not None and len(longest) > limit:
        raise ValueError(
            f"max_length: expected at most {limit}, the positions of the model, got a text of {len(longest)} tokens"
        )
    top = max(max(text.ids, default=0) for text in encoded)
    if top >= vocabulary:
        raise ValueError(
            f"tokenizer: expected ids below {vocabulary}, the rows of the model's embedding, got {top}; "
            "is it the tokenizer of this model?"
        )
    return longest


def _mean_spans(wanted: Sequence[str], sums: job.Tensors, n_rows: int) -> dict[str, Any]:
    spans = [(sums[name] / n_rows).tolist() if name in sums else None for name in wanted]
    return {"attention_span": spans}
