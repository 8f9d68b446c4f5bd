"""What each layer knows about its token, the next one and the position."""

from __future__ import annotations

from typing import Any

from msma_fast.report.chart import Series
from msma_fast.report.figure import Figure
from msma_fast.report.panels import FINE, PALE, by_layer
from msma_fast.report.ticks import number

_KNOWN = {
    "token_id": (
        "What a layer knows about its token",
        "Close to the dashed line the layer still spells out which token it stands on; the lower it lies, the more of that "
        "has given way to something else.",
    ),
    "next_token": (
        "What a layer knows about the next token",
        "Above the pale line is what the occurrence says of the token to come, beyond what the token it stands on says by "
        "itself.",
    ),
    "position": (
        "What a layer knows about the position",
        "Above the pale line is what the occurrence says of the place in the text, beyond what the kind of token does; the "
        "most that can be known of eight parts is 2.08 nats.",
    ),
}


def knowledge_figures(results: dict[str, Any]) -> list[Figure]:
    """What each layer knows about a label, beside what the token's identity alone says of it, and the most there is."""
    info, found = results["information"], []
    for name, one in info["knowledge"].items():
        title, read = _KNOWN[name]
        series = [Series("known", one["value"], FINE, label="known")]
        if one["null"] is not None:
            series.append(Series("from the token alone", one["null"], PALE, label="token"))
        else:
            level = [one["most"]] * len(results["layers"])
            series.append(Series("entropy", level, PALE, label="entropy", dashed=True))
        found.append(
            by_layer(
                results, f"knows-{name.replace('_', '-')}", title, series, measure="information, nats", include=0, right=58,
                read=read,
                caption=f"Label estimator, k = {info['k']}, N = {number(one['n'])} tokens, entropy {number(one['most'])} "
                f"nats. Space: {results['spaces']['information']}.",
            )
        )  # fmt: skip
    return found
