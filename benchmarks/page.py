"""The results as one HTML file that loads nothing: ratio bars and tables, light and dark as the reader's system is."""

from __future__ import annotations

from typing import Any

from benchmarks.plot import ratio_plot
from benchmarks.results import fault_text, memory_text, ratio_text, seconds_text, share_text, title
from msma_fast.report.figure import text
from msma_fast.report.theme import css_variables

_STYLE = """
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.3rem;margin:3rem 0 .6rem}
p,dl{color:var(--soft);max-width:46rem}p b{color:var(--ink)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;font-size:.9rem}dd{margin:0;color:var(--ink)}
.chart{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem;overflow-x:auto}
.chart svg{display:block;width:100%;min-width:38rem;height:auto}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.32rem .7rem;border-bottom:1px solid var(--line);vertical-align:top}
.number{text-align:right;white-space:nowrap}thead th{color:var(--soft);font-weight:600}
tbody th{font-weight:600;min-width:9rem}tr.ours td{color:var(--accent);font-weight:600}
.gone{color:var(--soft);font-style:italic}
.note{color:var(--soft);font-size:.8rem;white-space:normal}
.red{border-left:4px solid var(--alert);background:var(--card);padding:.6rem 1rem;margin:1rem 0;max-width:none}
summary{cursor:pointer;color:var(--soft);margin:.8rem 0}
"""
_HEAD = ("case", "who", "median time", "t / t ours", "", "peak MiB", "GEMM equivalents")


def page(results: dict[str, Any]) -> str:
    """The whole document."""
    ops = dict.fromkeys(case["op"] for case in results["cases"])
    sections = "".join(_section(op, [case for case in results["cases"] if case["op"] == op]) for op in ops)
    red = "".join(
        f'<p class="red"><b>No number</b> for {text(one["case"])}: {text(one["reason"])}</p>' for one in results["red"]
    )
    quick = '<p class="red"><b>A quick run:</b> tiny cases, the numbers mean nothing.</p>' if results["quick"] else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>msma_fast benchmarks</title>'
        f"<style>{css_variables()}{_STYLE}</style></head><body><main><h1>msma_fast benchmarks</h1>"
        "<p>Everybody runs in turn in one process, round by round. <b>A bar is the median of t / t ours</b> over the "
        "rounds, the line across it its interval: to the right of 1 we are faster. Our answers are compared with a "
        "float64 oracle before anything is timed; the wrong answers of the others are counted against the same oracle, "
        "on a sample of rows.</p>"
        f"{quick}{_machine(results)}{red}{sections}</main></body></html>\n"
    )


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    commit = machine["commit"][:12] + (", with uncommitted changes" if machine["dirty"] else "")
    rows = {
        "processor": f"{machine['cpu']}, {machine['threads']} threads, {machine['instruction_set']}",
        "matrix products": ", ".join(f"{name} {rate:,.0f} GF/s" for name, rate in machine["gemm_gflops"].items()),
        "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        "variables": ", ".join(f"{name}={value}" for name, value in machine["variables"].items()) or "none set",
        "commit": commit,
        "date": results["created"][:10],
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in rows.items()) + "</dl>"


def _section(op: str, cases: list[dict[str, Any]]) -> str:
    rows = "".join(_rows(case) for case in cases)
    faults = (entry["fault"]["measure"] for case in cases for entry in case["contenders"] if entry.get("fault"))
    head = "".join(
        f'<th scope="col"{_NUMBER if place > 1 else ""}>{text(name or next(faults, "fault"))}</th>'
        for place, name in enumerate(_HEAD)
    )
    return (
        f'<h2 id="{text(op)}">{text(op)}</h2><div class="chart">{ratio_plot(op, cases)}</div>'
        '<details open><summary>The numbers</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(op)}, numbers"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


_NUMBER = ' class="number"'


def _rows(case: dict[str, Any]) -> str:
    rows = []
    for place, entry in enumerate(case["contenders"]):
        span = f'<th scope="rowgroup" rowspan="{len(case["contenders"])}">{text(title(case))}</th>'
        first = span if place == 0 else ""
        name = f"<td>{text(entry['name'])}</td>"
        if entry["status"] != "ok":
            why = f"{entry['status']}: {entry['reason']}"
            rows.append(f'<tr>{first}{name}<td class="gone" colspan="5">{text(why)}</td></tr>')
            continue
        equivalents = text(share_text(case)) if place == 0 else ""
        note = (entry.get("fault") or {}).get("note")
        fault = text(fault_text(entry.get("fault"))) + (f'<div class="note">{text(note)}</div>' if note else "")
        cells = (text(seconds_text(entry["median"])), text(ratio_text(entry)), fault, memory_text(entry), equivalents)
        numbers = "".join(f"<td{_NUMBER}>{cell}</td>" for cell in cells)
        rows.append(f"<tr{' class=ours' if place == 0 else ''}>{first}{name}{numbers}</tr>")
    return "".join(rows)
