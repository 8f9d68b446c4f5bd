"""The command `msma-fast`: analyze, collect, compare, train, intervene, experiment, doctor, bench. Arguments
are here, the work in modules."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from msma_fast._version import __version__

_MODELS = "smollm2, minilm, minilm-roberta, a local folder (what train wrote, too) or a hub name (smollm2)"
_TEXTS = "commons, kjv, kjv-verses, pydoc, a .txt, .jsonl or .csv file, or a folder"

_KINDS = ("translate", "amplify", "noise", "attention", "ablate")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, got {text}")
    return value


def _dose(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text}")
    return value


def _collection(parser: argparse.ArgumentParser, tokens: int) -> None:
    parser.add_argument("--model", default="smollm2", help=_MODELS)
    parser.add_argument("--texts", default="commons", help=f"{_TEXTS} (commons)")
    parser.add_argument("--tokens", type=_positive, default=tokens, help=f"tokens in all ({tokens})")
    parser.add_argument("--tokens-per-text", type=_positive, default=32, help="random positions of each text (32)")
    parser.add_argument("--max-length", type=_positive, default=128, help="tokens a text is cut to (128)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (0)")


def _attention_span(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attention-span", action="store_true", help="collect how far each block looks; reads more slowly (no)"
    )


def _intervention(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="smollm2", help=_MODELS)
    parser.add_argument("--texts", default="commons", help=f"{_TEXTS}; prompts are their first 24 tokens (commons)")
    parser.add_argument("--prompts", type=_positive, default=16, help="how many (16)")
    parser.add_argument("--ranges", help='layers of each scale, as "0-9,10-20,21-30" (each stack in thirds)')
    parser.add_argument("--scale", help="local, intermediate, global, or a range's number from 0 (the last)")
    parser.add_argument(
        "--kind", default="translate", help="translate, amplify, noise, attention or ablate (translate)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--strength", type=float, help="strength itself; 0 changes nothing")
    size.add_argument("--kl", type=_dose, help="mean KL to the untouched model, nats per token (0.1)")
    size.add_argument("--norm", type=float, help="mean relative shift of the states of the scale's last layer")
    parser.add_argument("--new-tokens", type=_positive, default=48, help="tokens written after each prompt (48)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (0)")
    parser.add_argument("--out", default="runs/intervention", help="folder for intervention.json (runs/intervention)")


def _experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("which", choices=("paper",), help="paper: that of arXiv 2505.20333")
    _collection(parser, 4000)
    parser.add_argument("--splits", type=_positive, default=5, help="of the texts, for the maps (5)")
    parser.add_argument("--prompts", type=_positive, default=16, help="prompts of the interventions (16)")
    parser.add_argument("--kl", type=_dose, default=0.3, help="nats per token that interventions are matched to (0.3)")
    parser.add_argument("--new-tokens", type=_positive, default=40, help="written for each prompt (40)")
    parser.add_argument("--kinds", nargs="*", default=list(_KINDS), choices=_KINDS, help="of interventions (all)")
    parser.add_argument("--out", default="runs/experiment", help="folder of the run (runs/experiment)")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="msma-fast", description="The geometry of a language model's layers, exactly, with a report."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    analyze = commands.add_parser("analyze", help="collect activations, measure the layers, write report.html")
    _collection(analyze, 8000)
    _attention_span(analyze)
    analyze.add_argument(
        "--activations", help="use activations already on disk (folder or .safetensors); no model is run"
    )
    analyze.add_argument(
        "--out", default="runs/analysis", help="folder of the run; an interrupted one continues (runs/analysis)"
    )
    analyze.add_argument("--k", type=_positive, default=15, help="neighbours (15)")
    analyze.add_argument("--mi-tokens", type=_positive, default=2000, help="tokens for mutual information (2000)")
    analyze.add_argument(
        "--untrained",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="hold the model against its own configuration with random weights, in memory beside it (yes)",
    )
    analyze.add_argument("--dry-run", action="store_true", help="only say what it would take: time, memory, disk")
    analyze.add_argument("--json", action="store_true", help="print results.json on standard output")
    collect = commands.add_parser("collect", help="only collect activations into a folder")
    _collection(collect, 8000)
    _attention_span(collect)
    collect.add_argument("--out", default="runs/activations", help="folder to write (runs/activations)")
    compare = commands.add_parser("compare", help="two models or runs on the same tokens, layer by layer")
    compare.add_argument("a", help="activations (a folder that collect or analyze wrote, or .safetensors)")
    compare.add_argument("b", help="the others, of the same tokens")
    compare.add_argument("--out", default="runs/comparison", help="folder for comparison.json (runs/comparison)")
    compare.add_argument("--k", type=_positive, default=15, help="neighbours (15)")
    compare.add_argument("--resamples", type=int, default=10, help="random halves of the texts, for errors (10)")
    compare.add_argument("--seed", type=int, default=0, help="of the halves (0)")
    train = commands.add_parser("train", help="train a small model on a text set, for analyses without a download")
    train.add_argument("architecture", help="gpt2 (a decoder) or t5 (encoder and decoder), six blocks a stack")
    train.add_argument("--texts", default="kjv", help=f"{_TEXTS} (kjv)")
    train.add_argument("--out", help="a new or empty folder for the model (runs/ARCHITECTURE)")
    train.add_argument(
        "--minutes", type=float, help="of training; how many steps fit varies, so the weights do too (4)"
    )
    train.add_argument(
        "--steps", type=_positive, help="train as many steps instead; the same seed then gives the same weights"
    )
    train.add_argument("--seed", type=int, default=0, help="of the weights and of what is read when (0)")
    intervene = commands.add_parser("intervene", help="change the layers of one scale, and measure the text")
    _intervention(intervene)
    experiment = commands.add_parser("experiment", help="maps between scales and interventions, each beside its nulls")
    _experiment(experiment)
    commands.add_parser("doctor", help="what this machine offers, and which backend serves what")
    commands.add_parser("bench", help="time knn beside torch and what else is installed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 1 for a user's error (said on standard error), 130 when interrupted."""
    arguments = build_parser().parse_args(argv)
    command = f"msma-fast {' '.join(sys.argv[1:] if argv is None else argv)}".strip()
    try:
        if arguments.command == "doctor":
            from msma_fast.doctor import doctor

            print(doctor())
            return 0
        if arguments.command == "bench":
            from msma_fast.bench import bench

            print(bench())
            return 0
        from msma_fast import commands, experiment_command, intervention_command

        run = {
            "analyze": commands.analyze_command,
            "collect": commands.collect_command,
            "compare": commands.compare_command,
            "train": commands.train_command,
            "intervene": intervention_command.intervene_command,
            "experiment": experiment_command.experiment_command,
        }
        run[arguments.command](arguments, command)
    except KeyboardInterrupt:
        whole = arguments.command in ("train", "intervene")
        what = "nothing was written" if whole else "the same command continues where it stopped"
        print(f"\ninterrupted; {what}", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:
        print(f"msma-fast: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
