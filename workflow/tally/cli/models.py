"""Verbs that bring models which were not made here: base-model, fetch."""

import argparse

from tally.cli import options


def register(verbs) -> None:
    p = options.verb(verbs, base_model, "base-model")
    p.add_argument(
        "--source",
        required=True,
        help="repository of the hub (owner/name), a path, or random: weights that know nothing",
    )
    p.add_argument("--file", default="open_clip_model.safetensors", help="in the repository or folder")
    p.add_argument("--revision", default="main", help="commit or branch of the repository")
    p.add_argument("--architecture", required=True, help="open_clip's name, such as ViT-B-32-quickgelu")
    p.add_argument("--seed", type=int, default=0, help="of random weights")
    options.files(p, "output")

    p = options.verb(verbs, fetch, "fetch")
    p.add_argument("--task", required=True)
    p.add_argument("--model", required=True, help="what {model} in the source and the file stands for")
    p.add_argument("--name", required=True, help="what {name} stands for: the task as they call it")
    p.add_argument("--source", required=True, help="repository of the hub (owner/name), or a path")
    p.add_argument("--file", default="", help="in the repository or folder")
    p.add_argument("--revision", default="main", help="commit or branch of the repository")
    options.files(p, "base", "output")


def base_model(args: argparse.Namespace) -> None:
    """Make the folder of a base model of open_clip's: its config, and its weights in two files beside --output.

    Random weights are for rehearsals: the run is whole, and its numbers mean nothing.
    """
    from tally.models import pretrained
    from tally.models.architecture import architecture

    config, folder = architecture(args.architecture), args.output.parent
    if args.source == "random":
        weights, provenance = pretrained.random(pretrained.write_config(folder, config), args.seed)
    else:
        weights, provenance = pretrained.fetch(args.source, args.file, args.revision)
    pretrained.write_model(folder, config, weights, provenance)
    pretrained.write_config(folder, config)


def fetch(args: argparse.Namespace) -> None:
    """Take a fine-tuned model that others published: download, check, convert, keep its provenance."""
    from tally.checkpoints import save
    from tally.files import sha256
    from tally.published import fetch as take

    weights, provenance = take(args.source, args.file, args.revision, args.base, name=args.name, model=args.model)
    metadata = {"task": args.task, "provenance": provenance, "base_sha256": sha256(args.base)}
    save(args.output, weights, "finetuned", metadata)
