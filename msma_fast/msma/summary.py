"""What the numbers say, in three plain sentences, and what to beware of. Everything here is read off the results."""

from __future__ import annotations

from typing import Any

# A share of the squared norm in one coordinate, or of rows that a null can move, worth a warning.
_TOP_SHARE = 0.2
_MOVED = 0.7
_SATURATED = 0.05
# Of the summed Fisher trace that a tenth of the tokens holds.
_FEW_HOLD = 0.9


def _neighbours(results: dict[str, Any]) -> str:
    matrix, names = results["overlap"]["matrix"], [layer["name"] for layer in results["layers"]]
    steps = [(matrix[i][i + 1], i) for i in range(len(names) - 1)]
    low, where = min(steps)
    middle = sorted(value for value, _ in steps)[len(steps) // 2]
    return (
        f"Adjacent layers share {middle:.0%} of a token's {results['overlap']['k']} nearest neighbours at the median; the "
        f"neighbourhoods change most between {names[where]} and {names[where + 1]} ({low:.0%} kept), and the first and "
        f"last layers share {matrix[0][-1]:.0%}."
    )


def _dimension(results: dict[str, Any]) -> str:
    names = [layer["name"] for layer in results["layers"]]
    finest = [(row[0], i) for i, row in enumerate(results["dimension"]["estimates"]) if row[0] is not None]
    if not finest:
        return "No layer has an intrinsic dimension: too many of its rows repeat exactly."
    (high, top), (low, bottom), (last, end) = max(finest), min(finest), finest[-1]
    ending = "" if top == end or bottom == end else f" and ends at {last:.1f}"
    return (
        f"The intrinsic dimension (TwoNN) runs from {low:.1f} at {names[bottom]} to {high:.1f} at {names[top]}{ending}, of "
        f"{results['model']['d']} coordinates."
    )


def _information(results: dict[str, Any]) -> str:
    information = results["information"]
    if "skipped" in information:
        return str(information["skipped"])
    pairs = [
        (information["mi"][a][b], information["null"][a][b], information["unreliable"][a][b])
        for a in range(len(results["layers"]))
        for b in range(a)
        if information["mi"][a][b] is not None
    ]
    if not pairs:
        return "There are fewer than two layers whose information can be estimated."
    trusted = [(mi, null) for mi, null, unreliable in pairs if not unreliable]
    saturated = len(pairs) - len(trusted)
    bound = f" ({saturated} of {len(pairs)} pairs are saturated or biased low, and left out)" if saturated else ""
    if not trusted:
        return f"All {len(pairs)} pairs of layers share more information than {information['n']} tokens can measure."
    mi, null = (sum(pair[t] for pair in trusted) / len(trusted) for t in (0, 1))
    return (
        f"Two layers share {mi:.2f} nats on average, and {null:.2f} of them remain when tokens are exchanged with others of "
        f"the same identity: at least {mi - null:.2f} nats are about this occurrence rather than about which token it "
        f"is{bound}."
    )


def _about_scales(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    scales, names = results["scales"], [layer["name"] for layer in results["layers"]]
    if "skipped" in scales:
        return [("note", "scales", str(scales["skipped"]))]
    supported = [one for one in scales["boundaries"] if one["supported"]]
    if not scales["told"]:
        return [
            ("note", "scales", "There are too few layers to tell a boundary between them from drift through depth.")
        ]
    if not supported:
        return [
            (
                "note",
                "scales",
                "No boundary between layers is supported as more than drift through depth: names such as local, intermediate "
                "and global would be names of positions.",
            )
        ]
    found = []
    if not scales["robust"]:
        found.append(
            (
                "warning",
                "scales",
                "Not robust: other boundaries are found in rows as they are, or in z-scores, than in normalised rows.",
            )
        )
    for one in supported:
        if one["without_massive"] is False or one["untrained"]:
            massive = one["without_massive"] is False
            why = "is gone without massive coordinates" if massive else "is in an untrained model too"
            found.append(("warning", "scales", f"The boundary before {names[one['layer']]} {why}."))
    return found


def summarize(results: dict[str, Any]) -> list[str]:
    """Three sentences: neighbours, dimension, information."""
    return [_neighbours(results), _dimension(results), _information(results)]


def warn(results: dict[str, Any]) -> list[dict[str, str]]:
    """[{level, subject, text}], warnings before notes."""
    found: list[tuple[str, str, str]] = []
    names = [layer["name"] for layer in results["layers"]]
    health, n = results["health"], results["data"]["n_tokens"]
    quantisation = results["model"]["quantisation"]
    if quantisation:
        found.append(
            ("warning", "quantisation", f"The weights are {quantisation}; the geometry is that of these weights.")
        )
    massive = [(rows, name) for rows, name in zip(health["massive_rows"], names, strict=True) if rows]
    if massive:
        most, where = max(massive)
        found.append(
            (
                "warning",
                "massive rows",
                f"{len(massive)} layers have rows with over ten times the median norm (most: {most} of {n} at {where}). "
                "Rows are RMS-normalised, which removes their size but not their direction.",
            )
        )
    shares = health["top_coordinate_share"]
    heavy = [(share, names[i], health["top_coordinate"][i]) for i, share in enumerate(shares) if share > _TOP_SHARE]
    if heavy:
        share, where, coordinate = max(heavy)
        found.append(
            (
                "warning",
                "massive coordinates",
                f"In {len(heavy)} layers one coordinate carries over {_TOP_SHARE:.0%} of a row's squared norm "
                f"(most: coordinate {coordinate} at {where}, {share:.0%}). CKA and the principal components follow it.",
            )
        )
    repeated = [
        (n - distinct, name) for distinct, name in zip(health["distinct_rows"], names, strict=True) if distinct < n
    ]
    if repeated:
        most, where = max(repeated)
        found.append(
            (
                "note",
                "repeated rows",
                f"{len(repeated)} of {len(names)} layers repeat rows exactly (most: {most} of {n} at {where}, where a token's "
                "row does not depend on its context). Equal distances are ordered by index; dimension is that of the distinct "
                "rows, and none is given where many repeat.",
            )
        )
    found += _about_information(results)
    found += _about_fisher(results)
    found += _about_scales(results)
    skipped = results["data"]["n_texts_skipped"]
    if skipped:
        found.append(
            ("note", "texts", f"{skipped} texts were too short for the tokens asked of each and were passed over.")
        )
    wanted = results["data"].get("n_tokens_wanted")
    if wanted and n < wanted:
        found.append(("warning", "fewer tokens", f"{wanted} tokens were asked for, and the texts gave {n}."))
    order = {"warning": 0, "note": 1}
    found.sort(key=lambda item: order[item[0]])
    return [{"level": level, "subject": subject, "text": text} for level, subject, text in found]


def _about_information(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    information = results["information"]
    if "skipped" in information:
        return [("note", "information", str(information["skipped"]))]
    found = []
    cells = [cell for row in information["unreliable"] for cell in row]
    measured = sum(value is not None for row in information["mi"] for value in row)
    if measured and sum(cells) > _SATURATED * measured:
        found.append(
            (
                "warning",
                "saturated information",
                f"{sum(cells) // 2} of {measured // 2} layer pairs share more than {information['n']} tokens can show: "
                f"saturated, near the ceiling of {information['ceiling']:.2f} nats, or biased low; their cells are hatched "
                "and mean 'more than this'.",
            )
        )
    if information["moved"] < _MOVED:
        found.append(
            (
                "warning",
                "weak null",
                f"Only {information['moved']:.0%} of the tokens in the information sample change places on average "
                "when equal tokens are exchanged; the rest keep their partners, so the null is too high and the excess "
                "too low.",
            )
        )
    found.append(
        (
            "note",
            "projection",
            f"Information is that of {information['dimensions']}-dimensional projections, not of whole layers; "
            "no p-values, one preprocessing. Read differences, not absolute numbers.",
        )
    )
    return found


def _about_fisher(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    fisher = results["fisher"]
    if "skipped" in fisher:
        return [("note", "Fisher geometry", str(fisher["skipped"]))]
    names = [layer["name"] for layer in results["layers"]]
    found = [
        (
            "note",
            "logit lens",
            f"Only the tokens of {names[-1]} are the model's own. Every layer before it is read with a norm and an output "
            "embedding that the model does not apply there: its Fisher geometry is that of the lens, not of what later blocks "
            "make of the state.",
        )
    ]
    shares = [(share, name) for share, name in zip(fisher["top_tenth"], names, strict=True) if share is not None]
    few = [pair for pair in shares if pair[0] > _FEW_HOLD]
    if few:
        most, where = max(few)
        found.append(
            (
                "warning",
                "a few tokens",
                f"In {len(few)} of {len(shares)} layers a tenth of the tokens holds over {_FEW_HOLD:.0%} of the Fisher trace "
                f"(most: {most:.1%} at {where}). The mean metric and its effective rank there are those of these few.",
            )
        )
    return found
