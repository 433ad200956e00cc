"""Flags that several verbs share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

Parser = argparse.ArgumentParser


def verb(
    verbs: "argparse._SubParsersAction[Parser]", run: Callable[[argparse.Namespace], None], name: str, *, stage=True
) -> Parser:
    """A parser for one verb, described by the function's docstring; a stage of the workflow is not in the list of verbs."""
    about = (run.__doc__ or "").strip()
    parser = verbs.add_parser(name, description=about, **({} if stage else {"help": first_line(about)}))
    parser.set_defaults(run=run)
    return parser


def first_line(about: str) -> str:
    return about.splitlines()[0].rstrip(".")


def files(parser: Parser, *names: str) -> None:
    """Required flags that take one path each."""
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE")


def many(parser: Parser, *names: str) -> None:
    """Required flags that take a path per task; the file's stem is the task's name."""
    for name in names:
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, metavar="FILE")


def arithmetic(parser: Parser) -> None:
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto", help="arithmetic of the forward pass"
    )
    setting(parser, "device", "auto", "auto, cpu, cuda (a free one), cuda:N or mps")
    setting(parser, "compile", 0, "1 to have torch.compile fuse the encoder")
    threads(parser)


def model(args: argparse.Namespace):
    """The model beside the config that --model names, as --base has it: with an adapter or without."""
    from tally.checkpoints import open_checkpoint
    from tally.models.base import adapted, compiled, read_model

    found = adapted(read_model(args.model.parent), open_checkpoint(args.base).names)
    return compiled(found) if args.compile else found


def setting(parser: Parser, name: str, default: float | str, about: str) -> None:
    """A flag about where the work is done, which the environment can set for all verbs at once."""
    variable = f"TALLY_{name.upper()}"
    parser.add_argument(
        f"--{name}",
        type=type(default),
        default=os.environ.get(variable, default),
        help=f"{about}; default: ${variable}, else {default}",
    )


def threads(parser: Parser) -> None:
    parser.add_argument("--threads", type=int, default=1, help="threads of the arithmetic")


def share(parser: Parser, default: float) -> None:
    parser.add_argument("--keep", type=float, default=default, help="share of each task vector that is kept")
    parser.add_argument(
        "--frozen-of",
        type=Path,
        metavar="FILE",
        help="count this model's frozen weights in the share too (authors' code)",
    )


def frozen(args: argparse.Namespace, domain_weights: int) -> int:
    """How many weights of --frozen-of are outside the domain."""
    if args.frozen_of is None:
        return 0
    from math import prod

    from tally.checkpoints import open_checkpoint

    model = open_checkpoint(args.frozen_of)
    return sum(prod(model.shape(name)) for name in model.names) - domain_weights


def lambdas(search: Path) -> dict[str, float]:
    """The lambda of each task that the search for a suite's TALL masks chose."""
    from tally.files import read_json

    return {task: row["lambda"] for task, row in read_json(search)["tasks"].items()}


def by_task(paths: list[Path]) -> dict[str, Path]:
    return {path.stem: path for path in paths}
