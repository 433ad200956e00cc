"""Verbs of a suite: merge-vectors, mask, vote, consensus, evaluate, magnitude, formats."""

import argparse

from tally.cli import options


def register(verbs) -> None:
    p = options.verb(verbs, merge_vectors, "merge-vectors")
    p.add_argument("--method", required=True)
    options.many(p, "vectors")
    options.share(p, 0.2)
    options.threads(p)
    options.files(p, "output")

    p = options.verb(verbs, mask, "mask")
    _suite(p)
    options.files(p, "merged", "search", "counts", "output")
    options.many(p, "vectors")
    p.add_argument("--lambdas", type=float, nargs="+", required=True, help="grid of lambda")
    p.add_argument("--strict", action="store_true", help="> instead of >= (the authors' code)")

    p = options.verb(verbs, vote, "vote")
    p.add_argument("--method", required=True)
    options.files(p, "masks", "search", "profile", "output")
    options.many(p, "vectors")
    p.add_argument("--strict", action="store_true", help="> instead of >= (the authors' code)")
    p.add_argument("--seed", type=int, default=0)
    options.share(p, 0.2)
    options.threads(p)

    p = options.verb(verbs, consensus, "consensus")
    p.add_argument("--method", required=True)
    p.add_argument("--k", type=int, required=True, help="votes a weight needs")
    p.add_argument("--seed", type=int, default=0)
    options.files(p, "votes", "profile", "merged", "output")

    p = options.verb(verbs, evaluate, "evaluate")
    _suite(p)
    p.add_argument("--k", type=int)
    options.files(p, "vector", "output")
    options.many(p, "finetuned")
    alpha = p.add_mutually_exclusive_group(required=True)
    alpha.add_argument("--alpha", type=float, help="scale, not searched")
    alpha.add_argument("--alphas", type=float, nargs="+", help="grid to search on validation data")

    p = options.verb(verbs, magnitude, "magnitude")
    _suite(p)
    options.files(p, "merged", "search", "output")
    options.many(p, "vectors")
    options.share(p, 0.1)

    p = options.verb(verbs, formats, "formats")
    _suite(p)
    options.files(p, "merged", "masks", "search", "counts", "output")
    p.add_argument("--formats", nargs="+", required=True, help="base dtype-vector dtype-mask codec: fp16-int8-zstd")


def _suite(parser: options.Parser) -> None:
    parser.add_argument("--suite", required=True)
    parser.add_argument("--method", required=True)
    options.files(parser, "model", "base")
    options.many(parser, "heads", "data")
    options.arithmetic(parser)


def _examination(args: argparse.Namespace):
    """What evaluation needs: examiner, bench, and the base's domain weights."""
    import torch
    from tally.accelerators import take
    from tally.checkpoints import open_checkpoint
    from tally.evaluate import Bench, Examiner, precision, tensors

    torch.set_num_threads(args.threads)
    device = take(args.device)
    model, base = options.model(args), open_checkpoint(args.base)
    examiner = Examiner(model, precision(args.precision, device), device=device)
    examiner = examiner._replace(frozen=examiner.cast(tensors(base, model.frozen)))
    bench = Bench.load(options.by_task(args.heads), options.by_task(args.data))
    return examiner, bench, {name: base.float32(name) for name in base.names if name.startswith(model.domain)}


def _candidate(args: argparse.Namespace, alpha: float | None, search: list, test: dict, k: int | None = None) -> dict:
    model = args.base.parent.name
    return {
        "model": model,
        "suite": args.suite,
        "method": args.method,
        "k": k,
        "alpha": alpha,
        "search": search,
        "test": test,
    }


def merge_vectors(args: argparse.Namespace) -> None:
    """Merge the task vectors of a suite into one vector."""
    from tally.checkpoints import create
    from tally.files import sha256
    from tally.merging import merge
    from tally.vectors import open_vectors

    paths = options.by_task(args.vectors)
    vectors = open_vectors(paths)
    metadata = {"method": args.method, "vectors_sha256": {task: sha256(path) for task, path in sorted(paths.items())}}
    frozen = options.frozen(args, vectors.size)
    if args.method.startswith("ties"):
        metadata |= {"keep": args.keep, "frozen": frozen}
    with create(args.output, vectors.layout("F32"), "merged", metadata) as out:
        merge(vectors, args.method, keep=args.keep, frozen=frozen, threads=args.threads, out={"vector": out.flat()})


def mask(args: argparse.Namespace) -> None:
    """Build the TALL masks of a suite, lambda chosen per task on its validation data, and test the restored models."""
    import numpy as np
    from tally.checkpoints import create, open_checkpoint
    from tally.evaluate import examine
    from tally.files import sha256, write_json
    from tally.masks import at, count, pack, tall, unpack
    from tally.progress import bar, timed
    from tally.scratch import scratch
    from tally.selection import choose_lambda
    from tally.vectors import open_vectors

    examiner, bench, base = _examination(args)
    vectors = open_vectors(options.by_task(args.vectors))
    tau = vectors.join(open_checkpoint(args.merged))
    lambdas, levels = sorted(args.lambdas), vectors.size * len(vectors.tasks)

    def restored(bits):
        """theta_0 + m_t o tau_mtl, the weights the examiner computes with."""
        part = vectors.split(np.where(bits, tau, np.float32(0)))
        return examiner.cast({name: base[name] + part[name] for name in part})

    found, masks = {}, {}
    with scratch(args.output, levels, np.uint8) as every:  # on disk, so that memory does not grow with the tasks
        rows = [every.part(lo, lo + vectors.size) for lo in range(0, levels, vectors.size)]
        tall(vectors, tau, lambdas, strict=args.strict, threads=args.threads, out=rows)
        for row, task in zip(rows, bar(vectors.tasks, "lambda", unit="task")):
            search = []
            for value in lambdas:
                bits = at(row[:], lambdas, value)
                with timed("evaluation"):
                    hits = examiner.hits(restored(bits), bench.heads[task], bench.val[task])
                search.append(
                    {"lambda": value, "density": float(bits.mean()), "correct": int(hits.sum()), "total": len(hits)}
                )
            chosen = choose_lambda(search)
            masks[task] = pack(at(row[:], lambdas, chosen["lambda"]))
            found[task] = {"lambda": chosen["lambda"], "density": count(masks[task]) / vectors.size, "search": search}

    with timed("evaluation"):
        test = examine(examiner, bench, lambda task: restored(unpack(masks[task], vectors.size)))
    metadata = {
        "suite": args.suite, "method": args.method, "strict": args.strict, "merged_sha256": sha256(args.merged),
        "lambdas": {task: row["lambda"] for task, row in found.items()},
    }  # fmt: skip
    with create(args.output, {task: ("U8", packed.shape) for task, packed in masks.items()}, "masks", metadata) as out:
        for task, packed in masks.items():
            out[task][:] = packed
    write_json(args.search, {"method": args.method, "tasks": found})
    args.method = f"tall-{args.method}"
    write_json(args.counts, _candidate(args, 1.0, [], test))


def vote(args: argparse.Namespace) -> None:
    """Count in how many masks each weight is, and how many it would be in by chance."""
    from tally.checkpoints import create, open_checkpoint
    from tally.files import sha256, write_json
    from tally.vectors import open_vectors
    from tally.votes import chance_profile, profile, votes

    vectors = open_vectors(options.by_task(args.vectors))
    masks = open_checkpoint(args.masks)
    counted = votes({task: masks[task] for task in vectors.tasks}, vectors.size)
    with create(
        args.output, vectors.layout("U8"), "votes", {"method": args.method, "masks_sha256": sha256(args.masks)}
    ) as out:
        out.flat()[:] = counted
    chance = chance_profile(
        vectors, options.lambdas(args.search), method=args.method, seed=args.seed, keep=args.keep,
        frozen=options.frozen(args, vectors.size),
        strict=args.strict, threads=args.threads,
    )  # fmt: skip
    tasks = len(vectors.tasks)
    write_json(
        args.profile, {"method": args.method, "tasks": tasks, "profile": profile(counted, tasks), "chance": chance}
    )


def consensus(args: argparse.Namespace) -> None:
    """Keep the weights of a merged vector that at least k masks want."""
    from tally import merging
    from tally.checkpoints import create, open_checkpoint
    from tally.files import read_json, sha256
    from tally.vectors import open_vectors

    merged, counted = open_checkpoint(args.merged), open_checkpoint(args.votes)
    tasks = int(read_json(args.profile)["tasks"])
    metadata = {
        "method": args.method,
        "k": args.k,
        "votes_sha256": sha256(args.votes),
        "merged_sha256": sha256(args.merged),
    }
    vectors = open_vectors({"merged": merged})
    with create(args.output, vectors.layout("F32"), "consensus", metadata) as out:
        if args.method == "random-consensus":
            votes, tau = vectors.join(counted), vectors.task(0)
            merging.random_consensus(tau, votes, args.k, tasks, vectors=vectors, seed=args.seed, out=out.flat())
        else:
            for name in vectors.names:
                kept = merging.consensus(merged[name], counted[name], args.k, tasks)
                out.stored(name)[:] = kept.reshape(-1)


def evaluate(args: argparse.Namespace) -> None:
    """Take one merged vector through all tasks of a suite: alpha on validation data, then the test data once."""
    from tally.checkpoints import open_checkpoint
    from tally.evaluate import evaluate as run
    from tally.files import read_json, write_json
    from tally.progress import timed

    examiner, bench, base = _examination(args)
    accuracy = {path.stem: read_json(path)["val"] for path in args.finetuned}
    reference = {task: val["correct"] / val["total"] for task, val in accuracy.items()}
    vector = open_checkpoint(args.vector)
    with timed("evaluation"):
        found = run(
            examiner,
            bench,
            base,
            {name: vector.float32(name) for name in vector.names},
            args.alphas or args.alpha,
            reference,
        )
    write_json(args.output, _candidate(args, **found, k=args.k))


def magnitude(args: argparse.Namespace) -> None:
    """Test the paper's magnitude baselines: the largest weights of each task vector, out of the sum or by themselves."""
    import numpy as np
    from tally.checkpoints import open_checkpoint
    from tally.evaluate import examine
    from tally.files import read_json, write_json
    from tally.masks import unpack
    from tally.merging import magnitude as largest
    from tally.progress import timed
    from tally.vectors import open_vectors

    examiner, bench, base = _examination(args)
    vectors = open_vectors(options.by_task(args.vectors))
    if args.method == "magnitude-masking-matched":
        found = read_json(args.search)["tasks"]
        size = {"counts": {task: round(row["density"] * vectors.size) for task, row in found.items()}}
    else:
        size = {
            "keep": 1 / len(vectors.tasks) if args.method == "magnitude-pruning" else args.keep,
            "frozen": options.frozen(args, vectors.size),
        }
    masks = dict(zip(vectors.tasks, largest(vectors, **size, threads=args.threads)))
    merged = vectors.join(open_checkpoint(args.merged))

    def model(task: str):
        tau = vectors.task(vectors.tasks.index(task)) if args.method == "magnitude-pruning" else merged
        part = vectors.split(np.where(unpack(masks[task], vectors.size), tau, np.float32(0)))
        return examiner.cast({name: base[name] + part[name] for name in part})

    with timed("evaluation"):
        test = examine(examiner, bench, model)
    write_json(args.output, _candidate(args, 1.0, [], test))


def formats(args: argparse.Namespace) -> None:
    """Measure the bits of a suite's bundle in other storage formats, and test the models restored from them."""
    from functools import partial
    from math import prod

    from tally.checkpoints import open_checkpoint
    from tally.files import read_json, sha256, write_json
    from tally.formats import compare
    from tally.packing import pack_bundle

    examiner, bench, base = _examination(args)
    whole, domain = open_checkpoint(args.base), sum(weight.size for weight in base.values())
    pack = partial(
        pack_bundle, base=whole, merged=args.merged, masks=args.masks, lambdas=options.lambdas(args.search),
        method=args.method, made_from={name: sha256(getattr(args, name)) for name in ("base", "merged", "masks")},
    )  # fmt: skip
    record = {
        "model": args.base.parent.name,
        "suite": args.suite,
        "method": args.method,
        "domain_weights": domain,
        "frozen_weights": sum(prod(whole.shape(name)) for name in whole.names) - domain,
        "formats": compare(args.formats, pack, examiner, bench, read_json(args.counts)["test"]),
    }
    write_json(args.output, record)
