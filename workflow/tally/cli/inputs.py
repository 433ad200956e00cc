"""What compress and merge are given: checkpoints by the name of their task, lambdas, the domain; and what is no output."""

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tally.cli import options
from tally.errors import TallyError

LAMBDA = 0.4  # the middle of the paper's grid, since nothing can be searched without validation data


def checkpoints(parser: options.Parser) -> None:
    parser.add_argument("--base", type=Path, required=True, metavar="PATH", help="safetensors file or folder of shards")
    parser.add_argument("--finetuned", nargs="+", required=True, metavar="NAME=PATH", help="one checkpoint per task")
    parser.add_argument(
        "--lambda", nargs="+", dest="lambdas", metavar="X|NAME=X",
        help=f"of TALL masks, larger keeps less; one number, or one per task (default {LAMBDA})",
    )  # fmt: skip
    domain(parser, "changed", "the weights that take part: changed (default), all, or patterns such as 'visual.*'")
    parser.add_argument(
        "--keep",
        type=float,
        help="share of largest weights (default: ties 0.2, magnitude-masking 0.1, magnitude-pruning 1/T)",
    )
    parser.add_argument("--strict", action="store_true", help="masks with > instead of >= (the authors' code)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    options.threads(parser)


def domain(parser: options.Parser, default: str, about: str) -> None:
    parser.add_argument("--domain", nargs="+", default=[default], metavar="PATTERN", help=about)


def _pairs(values: list[str], flag: str) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise TallyError(f"--{flag} {value}: NAME=VALUE is needed, such as mnist={value or 'VALUE'}")
        if name in found:
            raise TallyError(f"--{flag} gives {name!r} twice")
        found[name] = rest
    return found


def lambdas(values: list[str] | None) -> float | dict[str, float]:
    if values is None:
        return LAMBDA
    one = len(values) == 1 and "=" not in values[0]
    try:
        found = {name: float(value) for name, value in ({"": values[0]} if one else _pairs(values, "lambda")).items()}
    except ValueError:
        raise TallyError(f"--lambda {' '.join(values)}: numbers are needed") from None
    if not all(0 < value < math.inf for value in found.values()):
        raise TallyError(f"--lambda {' '.join(values)}: above 0 is needed; at 0 every mask keeps every weight")
    return found[""] if one else found


def check_keep(keep: float | None) -> None:
    """Raise TallyError for a share that keeps nothing, or is none."""
    if keep is not None and not 0 < keep <= 1:
        raise TallyError(f"--keep {keep:g}: it is a share of the weights, above 0 and at most 1")


def refuse_unused(method: str, flags: Mapping[str, tuple[object, object]]) -> None:
    """Raise TallyError for what was given in vain: flag -> (its value, None or False if not given; does it matter?)."""
    for flag, (value, matters) in flags.items():
        if not (value is None or value is False or matters):
            raise TallyError(f"{method} makes no use of --{flag}; leave it out, or choose another method")


def fresh(output: Path, force: bool, inputs: list[Path], like: Path | None = None) -> None:
    """Raise TallyError if writing `output`, a file or else a folder like that of the base `like`, would destroy something."""
    from tally.folders import check_replaceable

    folder = like is not None
    if output.is_dir() and not folder:
        raise TallyError(f"{output} is a folder; name a file in it")
    if output.is_file() and folder:
        raise TallyError(
            f"{output} is a file and the base a folder; name a folder, or one file that ends in .safetensors"
        )
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise TallyError(f"{output} is an input as well; choose another output")
    if output.exists() and not force and not (folder and not any(output.iterdir())):
        raise TallyError(f"{output} exists; choose another output, or replace it with --force")
    if output.is_dir():
        check_replaceable(output, like)


def vectors(args: argparse.Namespace, passes: int, folder: bool = False):
    """Task vectors of the checkpoints on the command line, which show how far they are read, and hashes of the files."""
    from tally.checkpoints import FLOATS, open_checkpoint
    from tally.vectors import difference

    paths = {name: Path(path) for name, path in _pairs(args.finetuned, "finetuned").items()}
    fresh(args.output, args.force, [args.base, *paths.values()], args.base if folder else None)
    domain = args.domain if args.domain not in (["changed"], ["all"]) else args.domain[0]
    opened = {task: open_checkpoint(path) for task, path in paths.items()}
    vectors = difference(args.base, opened, domain)
    others = [name for name in vectors.base.names if vectors.base.dtypes[name] not in FLOATS]
    for name in others if isinstance(domain, str) else ():
        for task, checkpoint in opened.items():
            if checkpoint[name].tobytes() != vectors.base[name].tobytes():
                kind = vectors.base.dtypes[name]
                print(f"note: {name!r} of {task} differs but is {kind}; the base's is kept", file=sys.stderr)
    base, *others = _hashes([args.base, *paths.values()], args.threads)
    return _watched(vectors, passes), {"base": base, "finetuned": dict(zip(paths, others, strict=True))}


def _hashes(paths: list[Path], threads: int) -> list[str]:
    """sha256 of files and folders, several at once, with one bar of how many of their bytes are read."""
    from concurrent.futures import ThreadPoolExecutor

    from tally.files import sha256, size

    read = _meter("hash the checkpoints", sum(map(size, paths)))
    with ThreadPoolExecutor(max(threads, 1)) as pool:  # the walk refuses fewer
        return list(pool.map(lambda path: sha256(path, read), paths))


def _watched(vectors, passes: int):
    """The same vectors with a bar of how much of `passes` readings of them is done."""
    from tally.vectors import Vectors

    read = _meter("read the checkpoints", passes * vectors.size)

    class Watched(Vectors):
        def fill(self, lo, hi, out, *rest):
            super().fill(lo, hi, out, *rest)
            read(hi - lo)

    return Watched(vectors.tasks, vectors.names, vectors.sources, vectors.base)


def _meter(label: str, total: int) -> Callable[[int], None]:
    """A bar in per cent of `total`; what is returned moves it on, from any thread."""
    import threading

    from tally.progress import bar

    ticks, lock = iter(bar(range(100), label, unit="%")), threading.Lock()
    place = [0, 0]  # of the total, ticks taken; one more than there are takes the bar to its end

    def move(done: int) -> None:
        with lock:
            place[0] += done
            while place[1] <= min(100 * place[0] // total, 100):
                place[1] += 1
                next(ticks, None)

    return move
