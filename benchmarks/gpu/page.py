"""The GPU report for people: a table of ops, a table of default configurations, and what the figures are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

_NOTE = (
    "Nothing here was run on a GPU. The kernels were compiled for each architecture and their machine code was read. A share "
    "is an upper bound of the peak that an op could reach: time at the datasheet's peak for the products, or for the least "
    "number of instructions, over the time that its own instructions take when nothing else costs any. 'Without overlap' adds "
    "tensor cores and issue slots up, 'with overlap' takes the larger. 'With glue' adds what torch's operations between the "
    "kernels, and the rows of candidates, take at the datasheet's bandwidth if every byte moves once: that is the share of "
    "the op; the one before it is that of its kernels alone. The kernels' other memory and all latencies come on top. "
    "Conversions and float64 run at lower rates than one instruction a slot, which only ops bound by float64 count."
)
_OPS = (
    "op", "arch", "n", "d", "k", "bound by", "without overlap", "with glue", "with overlap", "with glue",
)  # fmt: skip
_SHARES = ("bound_share", "bound_share_with_glue", "bound_share_overlapped", "bound_share_overlapped_with_glue")
_KERNELS = ("kernel", "arch", "blocks", "warps", "registers", "spilled", "shared", "occupancy", "tensor", "per entry")


def _ops(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for each in report["ops"]:
        shares = ("" if each[name] is None else f"{each[name]:.2f}" for name in _SHARES)
        k = "" if each["k"] is None else str(each["k"])
        yield each["op"], each["arch"], f"{each['n']:,}", str(each["d"]), k, each["bound"], *shares


def _kernels(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for each in report["kernels"]:
        if each["default"]:
            blocks = " x ".join(str(size) for size in each["blocks"].values())
            yield (
                each["kernel"], each["arch"], blocks, _known(each["warps"]), str(each["registers"]), str(each["spill_bytes"]),
                _known(each["shared_bytes"], lambda size: f"{size / 1024:.0f} KiB"),
                _known(each["occupancy"], lambda share: f"{share:.0%}"), "yes" if each["tensor_core"] else "",
                "" if each["instructions_per_entry"] is None else f"{each['instructions_per_entry']:.1f}",
            )  # fmt: skip


def _known(value: Any, written: Callable[[Any], str] = str) -> str:
    return "" if value is None else written(value)


def _columns(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    )


def text(report: dict[str, Any]) -> str:
    """For a terminal: the ops, and any default configuration that spills."""
    spilled = [row for row in _kernels(report) if row[5] != "0"]
    default = sum(1 for each in report["kernels"] if each["default"])
    told = _columns(_KERNELS, spilled) if spilled else f"{default} default configurations and CUDA kernels, none spills"
    return f"{_columns(_OPS, list(_ops(report)))}\n\n{told}"


def html(report: dict[str, Any]) -> str:
    def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
        lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
        lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        return "<table>" + "\n".join(lines) + "</table>"

    style = (
        "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:72rem;color:#1f232c;background:#fcfbf8}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}"
        "th,td{text-align:left;padding:.2rem .7rem;border-bottom:1px solid #dedcd6}p{max-width:46rem;line-height:1.5}"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>GPU kernels, read not run</title><style>{style}</style>"
        f"<h1>GPU kernels, read not run</h1><p>{escape(_NOTE)}</p><h2>Ops</h2>{table(_OPS, _ops(report))}"
        f"<h2>Kernels in their default configuration</h2>{table(_KERNELS, _kernels(report))}</html>\n"
    )
