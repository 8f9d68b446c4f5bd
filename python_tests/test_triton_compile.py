"""Every Triton kernel compiles for sm_80, sm_90 and sm_100 without a GPU, without spills, with the operations it may use."""

from __future__ import annotations

import pytest

from msma_fast.backends.triton import interpreted

pytest.importorskip("triton")
if interpreted():
    pytest.skip("a process that interprets kernels does not compile them", allow_module_level=True)

from benchmarks.gpu.compiled import ARCHITECTURES, compiled
from benchmarks.gpu.variants import TENSOR_CORE, Variant, variants
from msma_fast.triton_kernels import resources
from msma_fast.triton_kernels.resources import Configuration, Need
from msma_fast.triton_kernels.screen import COLUMNS

VARIANTS = list(variants())
DEFAULTS = [pytest.param(each, id=each.name, marks=[pytest.mark.slow] if each.slow else []) for each in VARIANTS]


SPARE = 16  # bytes that a configuration may spill which serves only where the first does not fit


def check(variant: Variant, configuration: Configuration, architecture: int, spilled: int = 0) -> None:
    found = compiled(variant, configuration, architecture)
    assert found.spilled <= spilled, f"{found.spilled} bytes spilled, {found.registers} registers"
    for word in variant.lacks:
        assert word not in found.sass
    if variant.tensor_core:
        assert TENSOR_CORE[architecture] in found.sass
    assert found.shared <= resources.GPUS[architecture].shared_block


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", DEFAULTS)
def test_default_configurations(variant: Variant, architecture: int) -> None:
    check(variant, variant.fitting(architecture)[0], architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", [pytest.param(each, id=each.name) for each in VARIANTS])
def test_every_other_configuration(variant: Variant, architecture: int) -> None:
    for configuration in variant.fitting(architecture)[1:]:
        check(variant, configuration, architecture, SPARE)


def test_what_is_compiled_is_what_is_launched() -> None:
    """A launch makes a constant of an integer that is 1, and another kernel for multiples of 16, unless it is told not to."""
    for variant in VARIANTS:
        specialised = {
            each.name
            for each in variant.kernel.params
            if not (each.is_constexpr or each.do_not_specialize) and variant.types.get(each.name, "*")[0] == "i"
        }
        assert specialised == ({"d"} if variant.rows else set()), variant.name
    assert COLUMNS % 16 == 0  # rows of the screen are this wide or a multiple of it: the one form that is compiled


def test_a_fused_operation_would_be_noticed() -> None:
    """The same kernel without the switch does fuse, so that the words a kernel must not have can be there."""
    exact = next(each for each in VARIANTS if each.op == "keys" and each.lacks == ("DFMA",))
    assert "DFMA" in compiled(exact._replace(options=resources.FUSED), exact.fitting(90)[0], 90).sass


def test_configurations_that_do_not_fit_are_left_out() -> None:
    small, large = Configuration({"B": 64}, 4), Configuration({"B": 256}, 4)

    def needs(each: Configuration) -> Need:
        return Need(registers=each.blocks["B"] * 64, shared=each.blocks["B"] * 700)

    assert resources.fitting([large, small], needs, 90) == [large, small]
    assert resources.fitting([large, small], needs, 80) == [small]  # 175 KiB of shared memory
    assert resources.fitting([large, small], needs, 89) == [small]
    assert resources.fitting([large, small], lambda each: Need(each.blocks["B"] * 128, 0), 90) == [small]  # registers
    assert resources.entry_of(103) == 100
    assert resources.fitting([large._replace(only=(80,)), small], needs, 90) == [small]
    with pytest.raises(RuntimeError, match="no configuration fits"):
        resources.fitting([large], lambda _: Need(0, 1 << 20), 90)
