"""Machine code read as loops: which instructions run how often, without running them.

The control flow graph is cut from a listing by `nvdisasm -c`. A loop belongs to a branch back to an instruction that every
way to the branch passes (its head dominates it); its body is what reaches the branch without passing the head.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

_LABEL = re.compile(r"^(\.L\w*):")
_INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<word>[A-Z][A-Za-z0-9_.]*)(?P<rest>[^;]*);"
)
_TARGET = re.compile(r"`\((\.L\w*)\)")


class Instruction(NamedTuple):
    word: str  # HGMMA.64x128x16.F32.BF16, FADD, ...
    target: int | None  # the place of the instruction that a branch goes to
    guarded: bool
    rest: str  # its operands


class Loop(NamedTuple):
    """head: the place of its first instruction; body: the places of all; depth: 1 for an outermost loop."""

    head: int
    body: frozenset[int]
    depth: int


def instructions(sass: str) -> list[Instruction]:
    """Those of the first function of a listing."""
    found: list[tuple[str, str | None, bool, str]] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(found)
        elif match := _INSTRUCTION.match(line):
            target = _TARGET.search(match["rest"]) if match["word"].startswith("BRA") else None
            guarded = match["guard"] is not None
            if match["word"] == "BRA.U":  # its predicate is an operand
                guarded = "UP" in match["rest"].split("`")[0]
            found.append((match["word"], target[1] if target else None, guarded, match["rest"].strip()))
    return [Instruction(word, None if to is None else labels[to], guarded, rest) for word, to, guarded, rest in found]


def _followers(code: list[Instruction]) -> list[list[int]]:
    """Where control may go after each instruction."""
    out: list[list[int]] = []
    for at, each in enumerate(code):
        ends = (each.target is not None or each.word in ("EXIT", "RET.REL.NODEC", "RET.ABS.NODEC")) and not each.guarded
        following = [] if ends or at + 1 == len(code) else [at + 1]
        out.append(following + ([each.target] if each.target is not None and each.target < len(code) else []))
    return out


def _dominators(after: list[list[int]], before: list[list[int]]) -> dict[int, int]:
    """Of every instruction that control reaches, the bits of those that every way to it passes."""
    order: list[int] = []
    seen, stack = {0}, [0]
    while stack:
        at = stack.pop()
        order.append(at)
        for to in after[at]:
            if to not in seen:
                seen.add(to)
                stack.append(to)
    order.sort()  # nearly the order of execution, so that few rounds are needed
    everything = (1 << len(after)) - 1
    over = dict.fromkeys(order, everything)
    over[0] = 1
    changed = True
    while changed:
        changed = False
        for at in order[1:]:
            common = everything
            for previous in before[at]:
                if previous in over:
                    common &= over[previous]
            common |= 1 << at
            if common != over[at]:
                over[at], changed = common, True
    return over


def loops(code: list[Instruction]) -> list[Loop]:
    """Every loop, outer ones before inner ones. Branches back to one head are one loop."""
    after = _followers(code)
    before: list[list[int]] = [[] for _ in code]
    for at, following in enumerate(after):
        for to in following:
            before[to].append(at)
    over = _dominators(after, before)
    bodies: dict[int, set[int]] = {}
    for at in over:
        for head in after[at]:
            if not over[at] >> head & 1:
                continue
            body = bodies.setdefault(head, {head})
            stack = [at]
            while stack:
                place = stack.pop()
                if place not in body:
                    body.add(place)
                    stack += [previous for previous in before[place] if previous in over]
    found = [
        Loop(head, frozenset(body), sum(head in other for other in bodies.values())) for head, body in bodies.items()
    ]
    return sorted(found, key=lambda loop: (loop.depth, loop.head))


def counted(code: list[Instruction], what: Callable[[Instruction], str]) -> dict[Loop | None, Counter[str]]:
    """Instructions by the innermost loop that holds them (None: outside of all), counted by what `what` calls them."""
    nest = loops(code)
    found: dict[Loop | None, Counter[str]] = {None: Counter(), **{loop: Counter() for loop in nest}}
    for at, each in enumerate(code):
        inside = [loop for loop in nest if at in loop.body]
        found[max(inside, key=lambda loop: loop.depth, default=None)][what(each)] += 1
    return found


def guarded_by_a_vote(code: list[Instruction]) -> frozenset[int]:
    """The places of what is done only where a vote of the warp found somebody, and ends in an atomic: for every atomic the
    largest region behind one side of a branch that holds no other one, and no vote."""
    after = _followers(code)
    before: list[list[int]] = [[] for _ in code]
    for at, following in enumerate(after):
        for to in following:
            before[to].append(at)
    over = _dominators(after, before)
    found: set[int] = set()
    for atomic in (at for at, each in enumerate(code) if each.word.startswith("ATOM") and at in over):
        regions = []
        for branch in (at for at, each in enumerate(code) if each.target is not None and each.guarded):
            for side in after[branch] if over[atomic] >> branch & 1 else ():
                if over[atomic] >> side & 1:
                    region = {at for at in over if over[at] >> side & 1}
                    words = [code[at].word for at in region]
                    if not any(word.startswith("VOTE") for word in words) and (
                        sum(word.startswith("ATOM") for word in words) == 1
                    ):
                        regions.append(region)
        found |= max(regions, key=len, default=set())
    return frozenset(found)
