"""Writing with common random numbers, and changing states while it happens."""

from __future__ import annotations

from typing import Any

import intervention_models
import numpy as np
import pytest
import tiny_models
import torch
from intervention_models import FAMILIES
from torch import Tensor

from msma_fast.msma import common_random, hooks
from msma_fast.msma.decoding import decode, surprise, text
from msma_fast.msma.hooks import KINDS, Touch, watch
from msma_fast.msma.language import Group, Language, evaluating

pytest.importorskip("transformers")


def language(family: str) -> Language:
    return Language(intervention_models.model(family), intervention_models.tokenizer(family))


def group(family: str, count: int = 3, length: int = 8) -> Group:
    return Group(torch.tensor(intervention_models.prompts(family, count, (length,))), list(range(count)))


def touch_of(found: Language, kind: str, strength: float, first: int = 1, last: int = 2, stack: int = -1) -> Touch:
    direction = torch.arange(32.0) - 7 if kind == "translate" else None
    return Touch(found.stacks[stack], first, last, kind, strength, direction=direction, seed=5)


def count_hooks(model: Any) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def test_draws_are_a_function_of_their_place_alone() -> None:
    rows = common_random.gumbels(3, [4, 9], 2, 50)
    assert torch.equal(rows[1:], common_random.gumbels(3, [9], 2, 50))
    for other in (common_random.gumbels(4, [4], 2, 50), common_random.gumbels(3, [4], 3, 50)):
        assert not torch.isclose(rows[0], other[0]).any()
    noise = common_random.normals(3, [4, 9], 1, range(2, 6), 16)
    assert torch.equal(noise[1:, 2:3], common_random.normals(3, [9], 1, range(4, 5), 16))
    many = common_random.gumbels(0, [0], 0, 200_000)
    assert float(many.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(many.var()) == pytest.approx(np.pi**2 / 6, abs=0.03)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_cache_changes_nothing(family: str, kind: str | None) -> None:
    found, asked = language(family), group(family)
    touch = None if kind is None else touch_of(found, kind, 0.4)
    with evaluating(found.model):
        if touch is None:
            written = decode(found, asked, 9, 1)
            slow = decode_without_cache(found, asked, 9, 1, None)
        else:
            with touch:
                written = decode(found, asked, 9, 1, touch)
                slow = decode_without_cache(found, asked, 9, 1, touch)
    assert torch.equal(written, slow)
    assert written.shape == (3, 9)


def decode_without_cache(found: Language, asked: Group, count: int, seed: int, touch: Touch | None) -> Tensor:
    """Every step reads everything again; the Gumbel-max over words alone, written with loops."""
    words = set(found.tokenizer.get_vocab().values()) - found.specials
    read = asked.ids
    if found.kind == "encoder-decoder":
        mark = found.tokenizer.convert_tokens_to_ids("<extra_id_0>")
        read = torch.tensor([[*row[:-1], mark, row[-1]] for row in asked.ids.tolist()])
        start = torch.tensor([[0, mark]] * len(read))
    drawn: list[Tensor] = []
    for step in range(count):
        new = torch.stack(drawn, 1) if drawn else read[:, :0]
        if touch is not None:
            touch.place(asked.numbers, 0)
        if found.kind == "encoder-decoder":
            mask = torch.ones_like(read)
            inputs = {"attention_mask": mask, "decoder_input_ids": torch.cat([start, new], 1)}
            logits = found.model(input_ids=read, **inputs, use_cache=False).logits[:, -1]
        else:
            logits = found.model(input_ids=torch.cat([read, new], 1), use_cache=False).logits[:, -1]
        noise = common_random.gumbels(seed, asked.numbers, step, logits.shape[-1])
        scores = (logits.double() + noise).tolist()
        drawn.append(torch.tensor([max(words, key=row.__getitem__) for row in scores]))
    return torch.stack(drawn, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_writes_the_same_text_in_any_order_of_the_batch(family: str) -> None:
    found, asked = language(family), group(family, 4)
    order = [2, 0, 3, 1]
    with evaluating(found.model):
        written = decode(found, asked, 8, 1)
        assert torch.equal(written, decode(found, asked, 8, 1))
        turned = decode(found, Group(asked.ids[order], order), 8, 1)
        alone = decode(found, Group(asked.ids[3:], [3]), 8, 1)
        other = decode(found, asked, 8, 2)
    assert torch.equal(written[order], turned)
    assert torch.equal(written[3:], alone)
    assert not torch.equal(written, other)
    assert not set(written[:, 1:-1].flatten().tolist()) & found.specials


def test_words_are_drawn_as_often_as_the_model_says() -> None:
    found = language("gpt2")
    ids = torch.tensor(intervention_models.prompts("gpt2", 1, (8,)) * 3000)
    with evaluating(found.model):
        logits = found.model(ids[:1]).logits[0, -1].double()
        drawn = decode(found, Group(ids, list(range(3000))), 1, 0)[:, 0]
    words = [word for word in range(len(found.tokenizer)) if word not in found.specials]
    wanted = torch.zeros(64, dtype=torch.float64)
    wanted[words] = logits[words].softmax(-1)
    seen = torch.bincount(drawn, minlength=64) / 3000
    assert float((seen - wanted).abs().sum()) / 2 < 0.07  # total variation of 3000 draws from some 50 words


def test_an_encoder_fills_a_share_of_the_words_and_keeps_the_rest() -> None:
    found, asked = language("bert"), group("bert", 5, 20)
    with evaluating(found.model):
        written = decode(found, asked, 8, 1)
    masked = found.masks(asked, 1)
    assert masked.sum(1).tolist() == [6] * 5  # 30 % of 20 words
    assert not masked[:, [0, -1]].any()
    assert torch.equal(written[~masked], asked.ids[~masked])
    assert len({tuple(row) for row in masked.tolist()}) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_surprise_is_the_mean_loss_of_the_new_tokens(family: str) -> None:
    found, asked = language(family), group(family)
    with evaluating(found.model):
        new = decode(found, asked, 5, 1)
        losses = surprise(found, asked, new, 1)
        for row in range(3):
            if family == "bert":
                inputs, masked = found.question(asked, 1)
                logits = found.model(**inputs).logits[row][masked[row]]
                words = new[row][masked[row]]
            elif family == "t5":
                start = found.decoder_start(1)[0]
                reply = torch.cat([start, new[row]])[None]
                logits = found.model(
                    input_ids=found.encoder_ids(asked.ids)[row : row + 1], decoder_input_ids=reply
                ).logits
                logits, words = logits[0, len(start) - 1 : -1], new[row]
            else:
                logits = found.model(torch.cat([asked.ids[row], new[row]])[None]).logits[0, asked.ids.shape[1] - 1 : -1]
                words = new[row]
            expected = torch.nn.functional.cross_entropy(logits.double(), words)
            assert float(losses[row]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_changes_no_bit_and_another_does(family: str, kind: str) -> None:
    found, asked = language(family), group(family)
    with evaluating(found.model):
        for stack in range(len(found.stacks)):
            plain = found.logits(asked, 1)
            with touch_of(found, kind, 0.0, 0, 2, stack) as touch:
                assert torch.equal(found.logits(asked, 1, touch), plain)
            with touch_of(found, kind, 0.5, 0, 2, stack) as touch:
                assert not torch.allclose(found.logits(asked, 1, touch), plain, atol=1e-3)
    assert count_hooks(found.model) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_each_kind_is_its_formula(family: str) -> None:
    found, asked = language(family), group(family)
    stack = found.stacks[-1]
    with evaluating(found.model):

        def state(layer: int, *kind: Any) -> Tensor:
            if not kind:
                with watch(stack, layer) as seen:
                    found.logits(asked, 1)
                return seen[0]
            with touch_of(found, kind[0], kind[1], kind[2], layer) as touch, watch(stack, layer) as seen:
                found.logits(asked, 1, touch)
            return seen[0]

        for layer in (0, 2):
            h = state(layer)
            u = (torch.arange(32.0) - 7) / (torch.arange(32.0) - 7).norm()
            norm = h.norm(dim=-1, keepdim=True)
            torch.testing.assert_close(state(layer, "translate", 0.3, layer), h + 0.3 * norm * u)
            torch.testing.assert_close(state(layer, "amplify", 0.3, layer), 1.3 * h)
            e = common_random.normals(5, [0, 1, 2], layer, range(h.shape[1]), 32)
            rms = h.square().mean(-1, keepdim=True).sqrt()
            torch.testing.assert_close(state(layer, "noise", 0.3, layer), h + 0.3 * rms * e)
        # blocks 1 and 2 of the list end in layers 2 and 3 where there are as many
        torch.testing.assert_close(state(2, "ablate", 1.0, 1), state(0))
        torch.testing.assert_close(state(2, "ablate", 1.0, 2), state(1))
        before, after = state(1), state(2)
        torch.testing.assert_close(state(2, "ablate", 0.25, 2), before + 0.75 * (after - before))


def test_attention_at_strength_one_is_gone() -> None:
    """A change of the first token reaches no other, and what is left is the block without its attention."""
    for family in ("gpt2", "llama", "bert", "t5"):
        found, asked = language(family), group(family)
        other = asked._replace(ids=torch.cat([asked.ids[:, :1] * 0 + 9, asked.ids[:, 1:]], 1))
        stack = found.stacks[0]
        with evaluating(found.model):
            states = []
            for one in (asked, other):
                with touch_of(found, "attention", 1.0, 1, 2, 0) as touch, watch(stack, 2) as seen:
                    touch.place(one.numbers, 0)
                    found.run({"input_ids": one.ids, **({"decoder_input_ids": one.ids} if family == "t5" else {})})
                states.append(seen[0][:, 1:])
        torch.testing.assert_close(states[0], states[1])
        assert (
            type(hooks.self_attention(stack.blocks[0])).__name__
            == {
                "gpt2": "GPT2Attention",
                "llama": "LlamaAttention",
                "bert": "Linear",
                "t5": "T5Attention",
            }[family]
        )


def test_attention_at_strength_one_leaves_berts_norms() -> None:
    found, asked = language("bert"), group("bert")
    block: Any = found.stacks[0].blocks[1]
    with evaluating(found.model):
        stack = found.stacks[0]
        with touch_of(found, "attention", 1.0, 2, 2) as touch, watch(stack, 1) as first, watch(stack, 2) as second:
            found.logits(asked, 1, touch)
        h = block.attention.output.LayerNorm(first[0])
        torch.testing.assert_close(second[0], block.output(block.intermediate(h), h))


def fail_inside(found: Language, kind: str) -> None:
    with touch_of(found, kind, 0.5), watch(found.stacks[0], 1):
        assert count_hooks(found.model) > 0
        raise RuntimeError("stop")


def test_hooks_are_gone_after_an_exception() -> None:
    found, asked = language("gpt2"), group("gpt2")
    for kind in KINDS:
        with pytest.raises(RuntimeError, match="stop"):
            fail_inside(found, kind)
        assert count_hooks(found.model) == 0
    plain = torch.nn.Linear(4, 4)
    with (
        pytest.raises(
            NotImplementedError, match="kind: expected a submodule with Attention in its class's name in Linear"
        ),
        Touch(hooks.Stack("layer", (found.stacks[0].blocks[0], plain)), 1, 2, "attention", 1.0),
    ):
        pass
    assert count_hooks(found.model) == 0
    with evaluating(found.model), touch_of(found, "noise", 0.5) as touch:
        touch.place([0], 0)
        with pytest.raises(ValueError, match="place: expected the numbers of 3 prompts, got 1"):
            found.run({"input_ids": asked.ids})
    assert found.model.training


def test_errors() -> None:
    found = language("gpt2")
    stack = found.stacks[0]
    with pytest.raises(ValueError, match="first, last: expected 0 <= first <= last <= 3, got 2, 4"):
        Touch(stack, 2, 4, "amplify", 1.0)
    with pytest.raises(ValueError, match=r"kind: expected one of translate, .*, got 'rotate'"):
        Touch(stack, 0, 1, "rotate", 1.0)
    for kind in ("attention", "ablate"):
        with pytest.raises(
            ValueError, match=f"kind: expected layers that blocks end in for '{kind}', got layer 0 alone"
        ):
            Touch(stack, 0, 0, kind, 1.0)
    with pytest.raises(ValueError, match="direction: expected one for 'translate'"):
        Touch(stack, 0, 1, "translate", 1.0)
    with pytest.raises(ValueError, match="new_tokens: expected prompt and new tokens within the 64 positions"):
        decode(found, group("gpt2"), 60, 0)
    with pytest.raises(ValueError, match="tokenizer: expected one with a mask token for an encoder"):
        Language(intervention_models.model("bert"), tiny_models.tokenizer("bert"))


def test_a_head_reads_a_model_that_has_none() -> None:
    whole = intervention_models.model("bert")
    tokens = intervention_models.tokenizer("bert")
    bare = Language(whole.bert, tokens, whole.cls)
    full = Language(whole, tokens)
    asked = group("bert")
    with evaluating(whole):
        torch.testing.assert_close(bare.logits(asked, 0), full.logits(asked, 0))
        assert text(bare, decode(bare, asked, 1, 0)) == text(full, decode(full, asked, 1, 0))
        with pytest.raises(ValueError, match=r"head: expected a function .* got no logits of BertModel"):
            Language(whole.bert, tokens).logits(asked, 0)
        with pytest.raises(ValueError, match=r"head: .* got logits and a head of BertForMaskedLM"):
            Language(whole, tokens, whole.cls).logits(asked, 0)
        with pytest.raises(
            ValueError, match=r"head: expected logits \(b, t, V\) with V >= \d+ tokens, got \(3, 10, 5\)"
        ):
            Language(whole.bert, tokens, lambda h: h[..., :5]).logits(asked, 0)
