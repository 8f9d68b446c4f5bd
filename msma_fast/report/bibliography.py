"""The sources of what the report measures, as BibTeX, keyed by the measure that uses them."""

from __future__ import annotations

ENTRIES: dict[str, str] = {
    "msma": """@misc{zhang2025msma,
  title         = {Multi-Scale Manifold Alignment: A Unified Framework for Enhanced Explainability of
                   Large Language Models},
  author        = {Zhang, Yukun and Dong, Qi},
  year          = {2025},
  eprint        = {2505.20333},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CL}
}""",
    "cka": """@inproceedings{kornblith2019similarity,
  title     = {Similarity of Neural Network Representations Revisited},
  author    = {Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey},
  booktitle = {Proceedings of the 36th International Conference on Machine Learning},
  series    = {Proceedings of Machine Learning Research},
  volume    = {97},
  pages     = {3519--3529},
  year      = {2019}
}""",
    "twonn": """@article{facco2017estimating,
  title   = {Estimating the intrinsic dimension of datasets by a minimal neighborhood information},
  author  = {Facco, Elena and d'Errico, Maria and Rodriguez, Alex and Laio, Alessandro},
  journal = {Scientific Reports},
  volume  = {7},
  pages   = {12140},
  year    = {2017},
  doi     = {10.1038/s41598-017-11873-y}
}""",
    "mle": """@inproceedings{levina2004maximum,
  title     = {Maximum Likelihood Estimation of Intrinsic Dimension},
  author    = {Levina, Elizaveta and Bickel, Peter J.},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {17},
  year      = {2004}
}

@misc{mackay2005comments,
  title  = {Comments on `Maximum Likelihood Estimation of Intrinsic Dimension' by E. Levina
            and P. Bickel (2004)},
  author = {MacKay, David J. C. and Ghahramani, Zoubin},
  year   = {2005}
}""",
    "ksg": """@article{kraskov2004estimating,
  title   = {Estimating mutual information},
  author  = {Kraskov, Alexander and St{\\"o}gbauer, Harald and Grassberger, Peter},
  journal = {Physical Review E},
  volume  = {69},
  number  = {6},
  pages   = {066138},
  year    = {2004},
  doi     = {10.1103/PhysRevE.69.066138}
}""",
    "ross": """@article{ross2014mutual,
  title   = {Mutual Information between Discrete and Continuous Data Sets},
  author  = {Ross, Brian C.},
  journal = {PLoS ONE},
  volume  = {9},
  number  = {2},
  pages   = {e87357},
  year    = {2014},
  doi     = {10.1371/journal.pone.0087357}
}""",
    "fisher": """@book{amari2000methods,
  title     = {Methods of Information Geometry},
  author    = {Amari, Shun-ichi and Nagaoka, Hiroshi},
  series    = {Translations of Mathematical Monographs},
  volume    = {191},
  publisher = {American Mathematical Society},
  year      = {2000}
}

@article{rao1945information,
  title   = {Information and the accuracy attainable in the estimation of statistical parameters},
  author  = {Rao, C. Radhakrishna},
  journal = {Bulletin of the Calcutta Mathematical Society},
  volume  = {37},
  pages   = {81--91},
  year    = {1945}
}

@misc{nostalgebraist2020interpreting,
  title        = {interpreting {GPT}: the logit lens},
  author       = {{nostalgebraist}},
  howpublished = {LessWrong},
  year         = {2020}
}""",
    "rank": """@inproceedings{roy2007effective,
  title     = {The effective rank: A measure of effective dimensionality},
  author    = {Roy, Olivier and Vetterli, Martin},
  booktitle = {Proceedings of the 15th European Signal Processing Conference (EUSIPCO)},
  pages     = {606--610},
  year      = {2007}
}""",
    "massive": """@misc{sun2024massive,
  title         = {Massive Activations in Large Language Models},
  author        = {Sun, Mingjie and Chen, Xinlei and Kolter, J. Zico and Liu, Zhuang},
  year          = {2024},
  eprint        = {2402.17762},
  archivePrefix = {arXiv}
}""",
}


def bibtex(measures: list[str]) -> str:
    """The entries of the measures that were used, in the order given."""
    return "\n\n".join(ENTRIES[name] for name in measures)
