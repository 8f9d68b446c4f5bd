"""What the paper of Multi-Scale Manifold Alignment (arXiv 2505.20333) reports, to stand beside what is measured here."""

from __future__ import annotations

# {model: {measure: (before, after)}}, of the two maps together.
ALIGNMENT: dict[str, dict[str, tuple[float, float]]] = {
    "GPT-2": {"kl": (6955.0, 33.0), "mi": (0.23, 1.25), "distance_correlation": (0.97, 1.00)},
    "BERT": {"kl": (403.0, 0.51), "mi": (0.06, 2.89), "distance_correlation": (0.87, 1.00)},
}
WITHOUT_CURVATURE = "KL 18 to 32 % higher"
WITHOUT_GEOMETRY = "MI 43 to 68 % lower"

# (scale, intervention, measure of ours that is nearest, relative change, effect size), of GPT-2.
INTERVENTIONS: tuple[tuple[str, str, str, float, float], ...] = (
    ("global", "amplify", "mtld", 0.074, 0.23),
    ("global", "amplify", "coherence", -0.24, -0.24),
    ("intermediate", "amplify", "sentence_count", 0.25, 0.24),
    ("intermediate", "amplify", "mean_sentence_length", -0.19, -0.27),
    ("local", "amplify", "ttr", 0.34, 0.34),
)
