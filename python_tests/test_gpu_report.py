"""The GPU report: loops are read rightly, what it says of the headline search, and that its bars can be missed."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("a process that interprets kernels does not compile them", allow_module_level=True)

from benchmarks.gpu import bound, page, sass
from benchmarks.gpu.compiled import compiled
from benchmarks.gpu.kernels import direct, knn, ksg_exact
from benchmarks.gpu.variants import variants

# A loop of three instructions within one of seven; one that waits, laid out behind the end, and its way back.
LISTING = """
        /*0000*/                   MOV R1, RZ ;
        /*0010*/              @!P0 EXIT ;
.L_x_0:
        /*0020*/                   LDG.E R2, [R4] ;
.L_x_1:
        /*0030*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0040*/                   IADD3 R3, R3, 0x1, RZ ;
        /*0050*/              @!P1 BRA `(.L_x_1) ;
        /*0060*/              @!P3 BRA `(.L_x_2) ;
.L_x_3:
        /*0070*/                   FFMA R2, R2, R2, R2 ;
        /*0080*/               @P2 EXIT ;
        /*0090*/                   BRA `(.L_x_0) ;
.L_x_2:
        /*00a0*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2 ;
        /*00b0*/              @!P0 BRA `(.L_x_2) ;
        /*00c0*/                   BRA `(.L_x_3) ;
"""


def test_loops_of_a_listing() -> None:
    code = sass.instructions(LISTING)
    found = sass.loops(code)
    assert [(loop.head, loop.depth, len(loop.body)) for loop in found] == [(2, 1, 11), (3, 2, 3), (10, 2, 2)]
    counts = bound.counts(code, warps=4)
    assert counts.issued == (2.0, 8.0, 2.0)  # what waits is passed once, and the matrix instruction is counted apart
    assert counts.products == (0.0, 0.0, 4 * 2.0 * 16 * 8 * 16)


def test_the_headline_search_can_reach_its_bars() -> None:
    """knn of 50,000 rows in 576 dimensions, k = 15, on sm_90; with the candidates counted on real activations."""
    largest = next(knn.ops(90))
    assert (largest.n, largest.d, largest.k) == (50_000, 576, 15)
    alone, overlapped = largest.shares()
    assert 0.55 <= alone < overlapped <= 1
    assert overlapped >= 0.70
    # Every tile in the first pass, and ten times as many candidates, are not free.
    crowded = knn.op(90, 50_000, 576, 15, candidates=300.0)
    assert crowded.shares()[0] < alone - 0.1


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_counts_in_few_coordinates_are_near_their_issue_bound(architecture: int) -> None:
    for op in direct.ops(architecture):
        assert 0.8 <= op.shares()[0] < 1


def test_mutual_information_in_few_coordinates_is_bound_by_its_keys() -> None:
    """The joint search looks at every pair twice, which leaves half of what one look would take."""
    for op in ksg_exact.ops(90):
        assert len(op.passes) == 4
        assert 0.5 <= op.shares()[0] < 1


def test_products_that_are_not_in_the_code_are_noticed() -> None:
    collect = next(each for each in variants() if each.kernel.__name__ == "collect_kernel")
    configuration = collect.fitting(90)[0]
    found = compiled(collect, configuration, 90)
    assert bound.passed(collect, configuration, found, 90, 576, 1, 1).mma > 0
    without = found._replace(sass=found.sass.replace("HGMMA", "NOMMA"))
    with pytest.raises(ValueError, match="operations a tile"):
        bound.passed(collect, configuration, without, 90, 576, 1, 1)
    assert 0 < bound.occupancy(found, configuration, 90) <= 1


def test_the_page_names_what_spills() -> None:
    kernel = {
        "kernel": "k[a<b]", "arch": "sm_90", "default": True, "blocks": {"B": 8}, "warps": 4, "registers": 255,
        "spill_bytes": 16, "shared_bytes": 2048, "occupancy": 0.5, "tensor_core": False, "instructions_per_entry": None,
    }  # fmt: skip
    assert "k[a<b]" in page.text({"kernels": [kernel], "ops": []})
    assert "none spills" in page.text({"kernels": [kernel | {"spill_bytes": 0}], "ops": []})
    assert "k[a&lt;b]" in page.html({"kernels": [kernel], "ops": []})
