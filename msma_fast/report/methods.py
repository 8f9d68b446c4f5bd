"""The generated methods paragraphs: every number a reader needs to repeat the analysis, and the sources of
what was used and of nothing else.
"""

from __future__ import annotations

from typing import Any

from msma_fast.report.bibliography import bibtex
from msma_fast.report.fisher import traced
from msma_fast.report.schema import clean, skipped, validate
from msma_fast.report.ticks import number, percent

_COUNT_WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def methods_text(results: dict[str, Any]) -> str:
    """The methods paragraphs and BibTeX of an analysis, as plain text.

    :param results: a result dict of schema msma_fast.analysis/1.
    :raises ValueError: a missing or odd field.
    """
    results = clean(results)
    validate(results)
    return "\n\n".join([*paragraphs(results), "References (BibTeX)", sources(results)]) + "\n"


def paragraphs(results: dict[str, Any]) -> list[str]:
    """The paragraphs without the references."""
    parts = (_model, _data, _geometry, _dimension, _information, _fisher, _scales, _software)
    return [text for text in (part(results) for part in parts) if text]


def sources(results: dict[str, Any]) -> str:
    """BibTeX of the sources that this analysis used."""
    dimension, information = results["dimension"], results["information"]
    used = {
        "msma": True,
        "cka": skipped(results["cka"]) is None,
        "twonn": skipped(dimension) is None and dimension["method"] == "twonn",
        "mle": skipped(dimension) is None and (dimension["method"] == "mle" or dimension.get("mle") is not None),
        "ksg": skipped(information) is None,
        "ross": skipped(information) is None and bool(information["knowledge"]),
        "fisher": skipped(results["fisher"]) is None,
        "rank": skipped(results["fisher"]) is None and traced(results["fisher"]),
        "massive": any(results["health"]["massive_rows"]),
    }
    return bibtex([name for name, is_used in used.items() if is_used])


def _model(results: dict[str, Any]) -> str:
    model, layers = results["model"], results["layers"]
    details = [
        model["architecture"],
        model["parameters"] and f"{number(model['parameters'])} parameters",
        model["n_layers"] and f"{model['n_layers']} blocks",
        model["d"] and f"d = {model['d']}",
        model["vocabulary"] and f"a vocabulary of {number(model['vocabulary'])}",
    ]
    known = [", ".join(str(d) for d in details if d)]
    known += [f"{name}: {model[name]}" for name in ("source", "revision") if model[name]]
    inside = "; ".join(part for part in known if part)
    text = f"Model. {model['name'] or 'Unnamed'}" + (f" ({inside})" if inside else "")
    text += f". Weights: {model['quantisation'] or 'no quantisation recorded'}"
    text += f"; forward pass in {model['dtype']}." if model["dtype"] else "."
    text += f" States were taken at {len(layers)} depths, from {layers[0]['name']} to {layers[-1]['name']}."
    return text


def _data(results: dict[str, Any]) -> str:
    data = results["data"]
    text = f"Data. {data['name'] or 'Unnamed texts'}" + (f" ({data['source']})" if data["source"] else "")
    counts = [
        data["n_texts"] is not None and f"{number(data['n_texts'])} texts",
        data["n_texts_skipped"] and f"{number(data['n_texts_skipped'])} more were skipped",
        data["tokens_per_text"] is not None and f"{number(data['tokens_per_text'])} tokens of each text",
        data["max_length"] is not None and f"at most {number(data['max_length'])} tokens of context",
        f"N = {number(data['n_tokens'])} tokens in all",
    ]
    text += ": " + ", ".join(str(c) for c in counts if c) + "."
    return text + (f" Sampling: {data['sampling']}." if data["sampling"] else "")


def _geometry(results: dict[str, Any]) -> str:
    n = number(results["data"]["n_tokens"])
    text = (
        f"Geometry. Space: {results['spaces']['geometry']}. Nearest neighbours are exact. "
        f"{results['spaces']['neighbours']} Two layers are compared by the mean share of the "
        f"k = {results['overlap']['k']} nearest neighbours that a token "
        f"has in both (N = {n})"
    )
    if skipped(results["cka"]) is None:
        kernel = results["cka"]["kernel"]
        text += f", and by centred kernel alignment with a {kernel} kernel (Kornblith et al. 2019)"
    text += "."
    if any(results["health"]["massive_rows"]):
        text += (
            f" Up to {number(max(v or 0 for v in results['health']['massive_rows']))} rows of a layer have "
            "more than ten times its median norm (massive activations, Sun et al. 2024)."
        )
    if skipped(results["explorer"]) is None:
        explorer = results["explorer"]
        text += f" The explorer lists the k = {explorer['k']} neighbours of {len(explorer['tokens'])} tokens."
    return text


def _dimension(results: dict[str, Any]) -> str:
    dimension = results["dimension"]
    if skipped(dimension) is not None:
        return ""
    names = {"twonn": "TwoNN (Facco et al. 2017)", "mle": "maximum likelihood (Levina and Bickel 2004)"}
    scales = ", ".join(number(s) for s in dimension["scales"])
    text = (
        f"Intrinsic dimension. {names.get(dimension['method'], dimension['method'])} on subsamples of "
        f"{scales} points: fewer points make wider neighbourhoods, and an estimate that moves with them is "
        "not a single dimension."
    )
    if dimension.get("mle") is not None:
        text += " Beside it the local maximum-likelihood estimate"
        text += " (Levina and Bickel 2004; MacKay and Ghahramani 2005)."
    return text


def _information(results: dict[str, Any]) -> str:
    info = results["information"]
    if skipped(info) is not None:
        return ""
    text = (
        f"Mutual information. Space: {results['spaces']['information']} ({info['dimensions']} dimensions). "
        f"Kraskov, Stoegbauer and Grassberger (2004), k = {info['k']}, N = {number(info['n'])} tokens, in "
        f"nats, never clipped; the estimator's ceiling at this N and k is {number(info['ceiling'])} nats."
    )
    if info["null"] is not None:
        times = _COUNT_WORDS.get(info["n_nulls"], str(info["n_nulls"]))
        text += (
            f" The null is the mean of {times} permutations within token identity; the excess is the "
            "estimate minus that null. No p-values are given."
        )
    flagged = sum(bool(info["unreliable"][i][j]) for i in range(len(info["unreliable"])) for j in range(i))
    text += f" {number(flagged)} pairs of layers are marked unreliable."
    names = {"token_id": "its token", "next_token": "the next one", "position": "the position in the text (eighths)"}
    if info["knowledge"]:
        each = [
            f"{names[name]} (N = {number(one['n'])}, entropy {number(one['most'])} nats)"
            for name, one in info["knowledge"].items()
        ]
        text += f" What a layer knows about {', '.join(each)} is the label estimator of Ross (2014), k = {info['k']}"
        if len(each) > 1:
            text += "; its null exchanges labels among rows of the same token"
        text += "."
    return text


def _fisher(results: dict[str, Any]) -> str:
    fisher = results["fisher"]
    if skipped(fisher) is not None:
        return ""
    names = [layer["name"] for layer in results["layers"]]
    spread = ", equally many of each text taken" if results["data"]["n_texts"] is not None else ""
    own = names[fisher["metric"].index("Fisher")]
    text = (
        f"Fisher geometry of the tokens. N = {number(fisher['n'])} tokens{spread}. A state is read as the token "
        "distribution that the model's final norm and output embedding give it; G is the Fisher metric of that distribution "
        f"in the space of the state (Amari and Nagaoka 2000), the norm's Jacobian included. At {own} this is how the model "
        "reads its tokens; on layers before it the read-out is a logit lens (nostalgebraist 2020), and the metric the "
        "logit-lens Fisher. "
    )
    if traced(fisher):
        text += (
            "The trace of G is given by its quartiles over tokens, the effective rank is that of the mean of G "
            "(Roy and Vetterli 2007). "
        )
    text += "Steps between layers are Fisher-Rao distances of a token's two distributions (Rao 1945)"
    if fisher["path"]["median"] is not None:
        text += f"; their sum is {number(fisher['path']['median'])} at the median"
    text += (
        f". Fisher-Rao neighbours, k = {fisher['k']} among {number(fisher['n_searched'])} tokens, are compared with the "
        "euclidean ones of the same tokens"
    )
    shares = [
        f"{percent(one['shared'])} at {names[one['layer']]}" for one in fisher["overlap"] if one["shared"] is not None
    ]
    return text + (f": they share {' and '.join(shares)}." if shares else ".")


def _scales(results: dict[str, Any]) -> str:
    scales = results["scales"]
    if skipped(scales) is not None:
        return ""
    text = (
        f"Scales. N = {number(scales['n'])} tokens of the first texts. A boundary between two layers is supported where the "
        "turnover (minus the logarithm of the shared neighbours, and of linear CKA) stands out from a robust trend over depth "
        "by more than the largest of as many layers of normal noise does once in twenty draws, in both measures, and where at "
        f"least half of {scales['resamples']} random halves of the texts put it within a layer."
    )
    if scales["untrained"] is not None:
        text += f" The untrained model ({scales['untrained']['model']}) has the same configuration and random weights."
    return text


def _software(results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    hardware = results["hardware"]
    parts = [
        hardware.get("cpu"),
        hardware.get("threads") and f"{hardware['threads']} threads",
        hardware.get("backend") and f"backend {hardware['backend']}",
    ]
    where = ", ".join(str(p) for p in parts if p)
    return (
        f"Software. {versions}" + (f"; {where}" if where else "") + f". Seed {results['seed']}. "
        f"Command: {results['command']}. Run on {results['created'][:10]}."
    )
