"""Verbs for people who hold checkpoints: compress, restore, merge, inspect, convert; and the workflow's stage bundle."""

import argparse
import json
import sys
from pathlib import Path

from tally.cli import inputs, options
from tally.errors import TallyError

# Without validation data nothing can be searched: the alpha that task arithmetic's authors recommend, 1 for TIES as its
# authors do, and the consensus of two.
ALPHA, ALPHA_TIES, K = 0.4, 1.0, 2


def register(verbs) -> None:
    p = options.verb(verbs, compress, "compress", stage=False)
    inputs.checkpoints(p)
    p.add_argument("--method", default="task-arithmetic", help="task-arithmetic (default) or ties")
    p.add_argument("--embed-base", action="store_true", help="put the base into the file; else it is needed to restore")
    _encoding(p)
    _output(p)

    p = options.verb(verbs, restore, "restore", stage=False)
    p.add_argument("bundle", type=Path, metavar="FILE", help="bundle")
    p.add_argument("--task", required=True, metavar="NAME", help="which of the bundle's tasks")
    p.add_argument("--base", type=Path, metavar="PATH", help="the base, if the bundle does not hold it")
    _output(p)

    p = options.verb(verbs, merge, "merge", stage=False)
    inputs.checkpoints(p)
    p.add_argument("--method", required=True, help="any of the registry; an unknown one lists them")
    p.add_argument("--k", type=int, help=f"votes a weight needs, of consensus methods (default {K})")
    p.add_argument(
        "--alpha", type=float,
        help=f"scale of the merged vector (default {ALPHA}; ties {ALPHA_TIES:g}; weight-average 1/T; masked methods 1)",
    )  # fmt: skip
    p.add_argument("--task", metavar="NAME", help="which task, of methods that make a model per task")
    p.add_argument("--seed", type=int, help="of random-consensus (default 0)")
    _output(p)

    p = options.verb(verbs, inspect, "inspect", stage=False)
    p.add_argument("bundle", type=Path, metavar="FILE", help="bundle")
    p.add_argument("--json", action="store_true", help="for programs")
    _quiet(p)

    p = options.verb(verbs, convert, "convert", stage=False)
    p.add_argument(
        "old", type=Path, metavar="OLD", help="torch pickle of a state dict, published mask file, safetensors"
    )
    p.add_argument("new", type=Path, metavar="NEW", help="safetensors file")
    p.add_argument("--dtype", help="fp32, fp16 or bf16: of all float tensors; else each keeps its own")
    p.add_argument("--base", type=Path, metavar="PATH", help="of a mask file: the model whose weights it covers")
    inputs.domain(p, "all", "of a mask file: which of the base's weights to keep")
    p.add_argument(
        "--layout", help="open_clip or transformers: rename a CLIP image tower to these from the other's names"
    )
    p.add_argument("--force", action="store_true", help="replace NEW if it exists")
    _quiet(p)


def register_stage(verbs) -> None:
    p = options.verb(verbs, bundle, "bundle")
    p.add_argument("--method", required=True)
    options.files(p, "base", "merged", "masks", "search", "output")
    _encoding(p)


def _encoding(parser: options.Parser) -> None:
    parser.add_argument("--base-dtype", help="fp16 or bf16: of an embedded base in fp32 (default: as it is)")
    parser.add_argument(
        "--vector-dtype", default="fp32", help="of the merged vector: fp32 (default), fp16, bf16 or int8"
    )
    parser.add_argument(
        "--mask-codec", default="packed", help="of the masks: packed (default), one bit a weight, or zstd, smaller"
    )


def _output(parser: options.Parser) -> None:
    options.files(parser, "output")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    _quiet(parser)


def _quiet(parser: options.Parser) -> None:  # people write it after the verb as well
    parser.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress bars")


def compress(args: argparse.Namespace) -> None:
    """Put T fine-tuned checkpoints into one small file, from which each can be restored."""
    from tally.codec import CODECS
    from tally.encoding import FLOAT, VECTOR, known
    from tally.packing import compress as write
    from tally.packing import merged_by

    known(args.base_dtype, FLOAT, "base dtype")
    known(args.vector_dtype, VECTOR, "vector dtype")
    known(args.mask_codec, CODECS, "mask codec")
    if args.base_dtype and not args.embed_base:
        raise TallyError("--base-dtype is for a base that is embedded; add --embed-base, or leave it out")
    merged_by(args.method)
    lambdas = inputs.lambdas(args.lambdas)
    inputs.refuse_unused(args.method, {"keep": (args.keep, args.method == "ties")})
    inputs.check_keep(args.keep)
    keep = 0.2 if args.keep is None else args.keep
    vectors, made_from = inputs.vectors(args, passes=3 if args.method == "ties" else 1)
    write(
        args.output, vectors, lambdas, method=args.method, strict=args.strict, keep=keep, embed_base=args.embed_base,
        made_from=made_from, base_dtype=args.base_dtype, vector_dtype=args.vector_dtype, mask_codec=args.mask_codec,
        threads=args.threads, device=args.device,
    )  # fmt: skip
    if args.lambdas is None:
        print(
            f"lambda {inputs.LAMBDA:g}, a default: validation data would tell better ones (--lambda)", file=sys.stderr
        )


def restore(args: argparse.Namespace) -> None:
    """Write one task's model out of a bundle: the base's names, shapes and dtypes, a folder if the base is one."""
    from tally.bundle import open_bundle
    from tally.folders import is_folder

    given = [args.bundle] + ([args.base] if args.base else [])
    like = args.base if args.base and is_folder(args.output, args.base) else None
    inputs.fresh(args.output, args.force, given, like)
    open_bundle(args.bundle).check(args.task)  # before the base is hashed
    open_bundle(args.bundle, base=args.base).restore(args.task, args.output)


def merge(args: argparse.Namespace) -> None:
    """Merge fine-tuned checkpoints into one model, by any method of the registry; a folder if the base is one."""
    from tally.folders import is_folder
    from tally.merged_model import write_merged
    from tally.merging import method

    row = method(args.method)
    k = K if row.has_k and args.k is None else args.k
    inputs.refuse_unused(args.method, {
        "keep": (args.keep, row.merged.startswith("ties") or args.method.startswith("magnitude")),
        "lambda": (args.lambdas, row.masks),
        "strict": (args.strict, row.masks),
        "seed": (args.seed, args.method == "random-consensus"),
    })  # fmt: skip
    lambdas = inputs.lambdas(args.lambdas)
    inputs.check_keep(args.keep)
    passes, folder = 3 if row.merged.startswith("ties") else 1, is_folder(args.output, args.base)
    vectors, made_from = inputs.vectors(args, passes, folder)
    searched = ALPHA_TIES if args.method == "ties" else ALPHA
    default = {"search": searched, "average": 1 / len(vectors.tasks), "one": 1.0}[row.alpha]
    alpha = default if args.alpha is None else args.alpha
    facts = {
        "method": args.method,
        "alpha": alpha,
        "k": k,
        "lambdas": lambdas if row.masks else None,
        "task": args.task,
    }
    facts = {name: value for name, value in facts.items() if value is not None} | {"made_from": made_from}
    write_merged(
        args.output, vectors, args.method, alpha=alpha, k=k, lambdas=lambdas, task=args.task, keep=args.keep,
        strict=args.strict, seed=args.seed or 0, metadata=facts, threads=args.threads, device=args.device,
    )  # fmt: skip
    if row.has_k and k > len(vectors.tasks):
        print(f"k {k}: {len(vectors.tasks)} tasks cannot give so many votes, so the model is the base", file=sys.stderr)
    if row.alpha == "search" and args.alpha is None:
        print(f"alpha {alpha:g}, a default: validation data would tell a better one (--alpha)", file=sys.stderr)


def inspect(args: argparse.Namespace) -> None:
    """Show what is in a bundle: tasks, densities, votes, and its size."""
    from tally.bundle import open_bundle
    from tally.inspection import inspect as look

    facts = look(open_bundle(args.bundle))
    if args.json:
        print(json.dumps(facts, indent=1))
        return
    bits, size = facts["bits"], facts["bits"]["total"] / 8
    sign = ">" if facts["strict"] else ">="
    print(f"{args.bundle}: {len(facts['tasks'])} tasks, {facts['method']}, masks with {sign}, {facts['mask_codec']}")
    print(f"{facts['domain_weights']} weights in the domain, {facts['frozen_weights']} frozen")
    print("\n".join(_table(("task", "lambda", "density"), [
        (task, f"{row['lambda']:g}", f"{row['density']:.1%}") for task, row in facts["tasks"].items()
    ])))  # fmt: skip
    print(
        "\n".join(_table(("votes", "weights"), [(str(n), f"{share:.1%}") for n, share in enumerate(facts["profile"])]))
    )
    print(", ".join(f"{name} {share:.1%}" for name, share in facts["shares"].items()))
    print("\n".join(_table(("part", "megabytes", "share"), [
        (part, f"{count / 8e6:.3f}", f"{count / bits['total']:.1%}") for part, count in bits.items()
    ])))  # fmt: skip
    all_of_them, ratio = len(facts["tasks"]) * facts["base_bytes"], facts["ratio"]
    print(
        f"the file, which holds its base, {size / 1e6:.3f} MB, is" if facts["base_embedded"] else
        f"the file does not hold its base; with the base's {facts['base_bytes'] / 1e6:.3f} MB it is",
        f"{max(ratio, 1 / ratio):.2f} times {'smaller' if ratio >= 1 else 'larger'} than the {len(facts['tasks'])}"
        f" checkpoints, {all_of_them / 1e6:.3f} MB",
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        f"  {row[0]:<{widths[0]}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], widths[1:]))
        for row in [head, *rows]
    ]


def convert(args: argparse.Namespace) -> None:
    """Convert a torch pickle or a published mask file to safetensors, without running what a pickle says."""
    from tally.convert import convert as write

    inputs.fresh(args.new, args.force, [args.old])
    domain = args.domain if args.domain != ["all"] else "all"
    write(args.old, args.new, args.dtype, args.base, domain, args.layout)


def bundle(args: argparse.Namespace) -> None:
    """Put base, merged vector and masks of a suite into one file."""
    from tally.files import sha256
    from tally.packing import pack_bundle

    made_from = {name: sha256(getattr(args, name)) for name in ("base", "merged", "masks")}
    pack_bundle(
        args.output, args.base, args.merged, args.masks, options.lambdas(args.search), method=args.method,
        made_from=made_from, base_dtype=args.base_dtype, vector_dtype=args.vector_dtype, mask_codec=args.mask_codec,
    )  # fmt: skip
