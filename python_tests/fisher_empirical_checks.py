"""What the tests of mf.fisher.empirical share: models, batches, and one backward pass per sequence in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import tiny_models
import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
CAUSAL = ("gpt2", "llama", "mistral", "qwen2", "gpt_neox")
FAMILIES = (*CAUSAL, "bert", "roberta", "t5")


def model_of(family: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    if family != "bert":
        return tiny_models.model(family, dtype=dtype, **changes)
    import transformers as hf

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return hf.BertForMaskedLM(hf.BertConfig(vocab_size=64, initializer_range=0.3, **sizes)).to(dtype).train()


def batch_of(family: str, n: int = 5, t: int = 7, seed: int = 0) -> Batch:
    """Padded on the right and, one sequence, on the left; some labels left out where the family has labels."""
    source = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 64, (n, t), generator=source)
    mask = torch.ones_like(ids)
    if t > 2 and n > 1:
        mask[0, t - 2 :] = 0
        mask[-1, :2] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    if family not in CAUSAL:
        labels = torch.randint(3, 64, (n, t - 1 if family == "t5" else t), generator=source)
        labels[torch.rand(labels.shape, generator=source) < 0.4] = -100
        labels[:, min(2, t - 2)] = 5
        batch["labels"] = labels
    return batch


def targets(batch: Batch, logits: Tensor) -> list[tuple[int, int]]:
    """(position, token) pairs that one sequence predicts; a causal model's tokens come one position later."""
    labels, mask = batch.get("labels"), batch.get("attention_mask")
    if batch.get("causal") is not None or labels is None:
        y = (batch["input_ids"] if labels is None else labels)[0].tolist()
        seen = [1] * len(y) if mask is None else mask[0].tolist()
        return [(t, y[t + 1]) for t in range(len(y) - 1) if y[t + 1] != -100 and seen[t] and seen[t + 1]]
    decoder = "decoder_input_ids" in batch
    seen = [1] * labels.shape[1] if decoder or mask is None else mask[0].tolist()
    return [(t, int(y)) for t, y in enumerate(labels[0]) if y != -100 and seen[t]]


def calling(model: Any, batch: Batch) -> Batch:
    inputs = {key: value for key, value in batch.items() if key not in ("labels", "causal")}
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        before = torch.roll(batch["labels"], 1, 1).masked_fill(torch.roll(batch["labels"], 1, 1) == -100, 0)
        before[:, 0] = 0
        inputs["decoder_input_ids"] = before
    return inputs


def score(model: Any, one: Batch) -> Tensor:
    inputs = calling(model, one)
    logits = model(**inputs).logits[0].double()
    pairs = targets({**inputs, **{key: one[key] for key in ("labels", "causal") if key in one}}, logits)
    shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return sum((shares[t, y].log() for t, y in pairs), logits.sum() * 0)


def single(batch: Batch, i: int) -> Batch:
    n = next(iter(batch.values())).shape[0]
    return {key: value[i : i + 1] if value.shape[0] == n else value for key, value in batch.items()}


def loop(model: Any, batches: list[Batch], block: bool = False) -> dict[str, Tensor]:
    """Squares, or outer products, of the gradient of every sequence alone, averaged."""
    training = [module.training for module in model.modules()]
    model.eval()
    names = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    total = {name: torch.zeros(()) for name in names}
    sequences = 0
    for batch in batches:
        for i in range(next(iter(batch.values())).shape[0]):
            value = score(model, single(batch, i))
            found = torch.autograd.grad(value, list(names.values()), allow_unused=True)
            sequences += 1
            for (name, weight), gradient in zip(names.items(), found, strict=True):
                g = (torch.zeros_like(weight) if gradient is None else gradient).double()
                total[name] = total[name] + (torch.outer(g.flatten(), g.flatten()) if block else g**2)
    for module, flag in zip(model.modules(), training, strict=True):
        module.training = flag
    return {name: value / sequences for name, value in total.items()}


def check(found: Any, wanted: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    """Relative to each parameter's largest entry; what is below 1e-20 of the model's largest is zero up to rounding."""
    assert list(found) == list(wanted)
    largest = max(float(value.max()) for value in wanted.values())
    assert largest > 0
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        error = float((found[name].double() - value).abs().max())
        assert error <= tolerance * float(value.abs().max()) + 1e-20 * largest, name


class Output(NamedTuple):
    logits: Tensor


class Regression(nn.Module):
    """logits (n, t, V) of features x (n, t, d)."""

    def __init__(self, d: int = 3, v: int = 4, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read = nn.Linear(d, v, bias=bias, dtype=torch.float64)

    def forward(self, x: Tensor) -> Output:
        return Output(self.read(x))


def kronecker_factors(model: Any, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """a and b of every layer of its own, sequence by sequence, with the graph of each cut at the layers' outputs."""
    model.eval()
    owners = [id(w) for m in model.modules() if not list(m.children()) for w in m.parameters(recurse=False)]
    kinds = ("Linear", "Conv1D", "Embedding")
    layers = {
        name + ".weight": module
        for name, module in model.named_modules()
        if type(module).__name__ in kinds and owners.count(id(module.weight)) == 1
    }
    inputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    gradients: dict[str, list[Tensor]] = {name: [] for name in layers}
    for i in range(batch["input_ids"].shape[0]):
        calls: list[tuple[str, Tensor, Tensor]] = []

        def keep_call(name: str, calls: list[Any] = calls) -> Any:
            return lambda _, args, result: calls.append((name, args[0], result))

        hooks = [module.register_forward_hook(keep_call(name)) for name, module in layers.items()]
        value = score(model, single(batch, i))
        for hook in hooks:
            hook.remove()
        found = torch.autograd.grad(value, [out for _, _, out in calls], allow_unused=True)
        for (name, x, _), g in zip(calls, found, strict=True):
            if g is not None:
                g = g.reshape(-1, g.shape[-1])
                keep = g.abs().sum(-1) > 0
                module = layers[name]
                x = x.detach()
                if type(module).__name__ == "Embedding":
                    if module.padding_idx is not None:
                        keep &= x.flatten() != module.padding_idx
                    x = nn.functional.one_hot(x.flatten(), module.num_embeddings).double()
                elif module.bias is not None:
                    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
                inputs[name].append(x.reshape(-1, x.shape[-1])[keep])
                gradients[name].append(g[keep])
    sequences = batch["input_ids"].shape[0]
    result = {}
    for name, module in layers.items():
        if not inputs[name]:
            continue
        x, g = torch.cat(inputs[name]), torch.cat(gradients[name])
        a = x.T @ x / x.shape[0]
        result[name] = (a.diagonal() if type(module).__name__ == "Embedding" else a, g.T @ g / sequences)
    return result


class Odd(nn.Module):
    """A small network of (n, t) ids with one unusual use of a weight, chosen by name."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.habit = habit
        self.embed = nn.Embedding(9, 6, padding_idx=0)
        self.table = nn.Embedding(12, 6)
        self.first = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.read = nn.Linear(6, 9)
        self.loose = nn.Parameter(torch.randn(6))
        self.unused = nn.Linear(6, 6)
        self.double()

    def forward(self, input_ids: Tensor) -> Output:
        n, t = input_ids.shape
        places = torch.arange(t)
        h = self.embed(input_ids)
        if self.habit == "flat table":
            h = h + self.table(places)
        elif self.habit == "one row for all":
            h = h + self.table(places[None])[0]
        elif self.habit == "loose parameter first":
            h = self.loose + torch.zeros_like(h)
        elif self.habit == "output overwritten":
            h += self.table(places[None])
        else:
            h = h + self.table(places[None])
        if self.habit == "input overwritten":
            inner = (h * 1).transpose(0, 1).contiguous().transpose(0, 1)  # its layer works on a copy
            h = torch.tanh(self.first(inner))
            if n > 1 and t > 1:
                inner.mul_(2)
        elif self.habit == "called twice":
            h = torch.tanh(self.first(torch.tanh(self.first(h))))
        elif self.habit == "called by name":
            h = torch.tanh(self.first(input=h))
        elif self.habit == "rows without a batch":
            h = torch.tanh(self.first(h.reshape(n * t, 6))).reshape(n, t, 6)
        elif self.habit == "routed rows":
            even = input_ids % 2 == 0
            h = h.masked_scatter(even[..., None], torch.tanh(self.first(h[even])))
        elif self.habit == "positions first":
            h = torch.tanh(self.first(h.transpose(0, 1))).transpose(0, 1)
        else:
            h = torch.tanh(self.first(h))
        if self.habit == "loose parameter":
            h = h * self.loose
        h = self.norm(h)
        if self.habit == "weight outside its module":
            return Output(self.read(h) + h @ self.embed.weight.T)
        if self.habit == "no graph":
            with torch.no_grad():
                h = h + self.unused(h)
        return Output(self.read(h))


def odd_batch(n: int, t: int) -> Batch:
    source = torch.Generator().manual_seed(n)
    ids = torch.randint(0, 9, (n, t), generator=source)
    return {"input_ids": ids, "labels": torch.randint(0, 9, (n, t), generator=source)}
