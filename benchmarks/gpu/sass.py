"""Machine code read as loops: which instructions run how often, without running them.

A loop is what lies between a backward branch and its target. Compilers lay the body of a loop out in one piece, so that an
instruction's loops are the intervals that hold it; code after the last EXIT that a loop jumps to and back from counts as part
of the loop that jumps there.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

_LABEL = re.compile(r"^(\.L\w*):")
_INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<word>[A-Z][A-Z0-9_.]*)(?P<rest>[^;]*);"
)
_TARGET = re.compile(r"`\((\.L\w*)\)")
_NO_ISSUE = frozenset(["NOP"])


class Instruction(NamedTuple):
    word: str  # HGMMA.64x128x16.F32.BF16, FADD, ...
    target: int | None  # the place of the instruction that a branch goes to
    guarded: bool
    text: str


class Loop(NamedTuple):
    """Instructions start..end, both included; depth 1 for an outermost loop."""

    start: int
    end: int
    depth: int


def instructions(sass: str) -> list[Instruction]:
    """Those of the first function of a listing by `nvdisasm -c`."""
    found: list[tuple[str, str | None, bool, str]] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(found)
        elif match := _INSTRUCTION.match(line):
            target = _TARGET.search(match["rest"]) if match["word"].startswith("BRA") else None
            found.append((match["word"], target[1] if target else None, match["guard"] is not None, line.strip()))
    return [
        Instruction(word, None if target is None else labels[target], guarded, text)
        for word, target, guarded, text in found
    ]


def loops(code: list[Instruction]) -> list[Loop]:
    """Every loop, the outer ones first. Branches to one place are one loop."""
    last_exit = max((at for at, each in enumerate(code) if each.word == "EXIT"), default=len(code))
    ends: dict[int, int] = {}
    for at, each in enumerate(code):
        # A branch to itself ends the listing; one from beyond the last EXIT is a return from code laid out apart.
        if each.target is not None and each.target < at <= last_exit:
            ends[each.target] = max(at, ends.get(each.target, at))
    spans = sorted(ends.items(), key=lambda span: (span[0], -span[1]))
    return [
        Loop(start, end, 1 + sum(a <= start and end <= b and (a, b) != (start, end) for a, b in spans))
        for start, end in spans
    ]


def counted(code: list[Instruction]) -> dict[Loop | None, Counter[str]]:
    """Instructions by the innermost loop that holds them (None: outside of all), counted by their word."""
    nest = loops(code)
    found: dict[Loop | None, Counter[str]] = {None: Counter(), **{loop: Counter() for loop in nest}}
    for at, each in enumerate(code):
        if each.word in _NO_ISSUE:
            continue
        inside = [loop for loop in nest if loop.start <= at <= loop.end]
        found[max(inside, key=lambda loop: loop.depth, default=None)][each.word] += 1
    return found
