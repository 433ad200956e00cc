"""Verbs for people who hold checkpoints, and the workflow's stage `bundle`."""

import argparse
import json

from tally.cli import options


def register(verbs) -> None:
    p = options.verb(verbs, bundle, "bundle")
    p.add_argument("--method", required=True)
    options.files(p, "base", "merged", "masks", "search", "output")


def bundle(args: argparse.Namespace) -> None:
    """Put base, merged vector and masks of a suite into one file."""
    from tally.bundle import pack_bundle
    from tally.checkpoints import sha256

    lambdas = {task: row["lambda"] for task, row in json.loads(args.search.read_text())["tasks"].items()}
    made_from = {name: sha256(getattr(args, name)) for name in ("base", "merged", "masks")}
    pack_bundle(args.output, args.base, args.merged, args.masks, lambdas, method=args.method, made_from=made_from)
