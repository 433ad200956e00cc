"""Verbs of what belongs to one task: base, prepare, head, finetune, vector; and the embedded base model's own making."""

import argparse
import hashlib
import json
import math
import signal

from tally.cli import options

RECIPE = ("steps", "batch", "lr", "warmup", "weight_decay", "clip_norm", "epsilon", "accumulate", "schedule")
EARLY = ("check", "patience")


def register(verbs) -> None:
    p = options.verb(verbs, base, "base")
    options.files(p, "model", "output")
    p.add_argument("--adapter", choices=("none", "ia3"), default="none", help="weights to learn beside the model's own")

    p = options.verb(verbs, prepare, "prepare")
    p.add_argument("--task", required=True)
    options.files(p, "model", "resources", "output", "manifest")
    p.add_argument("--source", default="auto", help="form of a published data set: auto, layout, hub or folders")
    options.setting(p, "data", "data", "folder of the published data sets")
    options.threads(p)
    p.add_argument("--context", type=int, default=512, help="tokens of a text, for a model that reads texts")
    p.add_argument("--long", choices=("cut", "refuse"), default="cut", help="what becomes of a longer text")

    p = options.verb(verbs, head, "head")
    p.add_argument("--task", required=True)
    options.files(p, "model", "base", "data", "output", "counts")
    options.arithmetic(p)

    p = options.verb(verbs, finetune, "finetune")
    p.add_argument("--task", required=True)
    options.files(p, "model", "base", "data", "head", "output", "counts")
    length = p.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="optimizer steps")
    length.add_argument("--epochs", type=int, help="times through the training data")
    p.add_argument("--batch", type=int, default=128, help="images per step")
    p.add_argument("--lr", type=float, required=True, help="peak learning rate")
    p.add_argument("--warmup", type=int, default=0, help="steps of linear warm-up")
    p.add_argument("--weight-decay", type=float, default=0.1)
    p.add_argument("--clip-norm", type=float, default=1.0, help="largest norm of a gradient")
    p.add_argument("--epsilon", type=float, default=1e-8, help="AdamW's epsilon")
    p.add_argument(
        "--accumulate", type=int, default=1, help="pieces that a process computes its batch in, for less memory"
    )
    p.add_argument("--schedule", choices=("cosine", "constant"), default="cosine", help="learning rate after warm-up")
    p.add_argument("--check", type=int, default=0, help="steps between looks at the validation data; 0: none is taken")
    p.add_argument("--patience", type=int, default=5, help="looks without a better one that end the training early")
    p.add_argument("--seed", type=int, default=0)
    options.setting(p, "minutes", 10.0, "minutes between snapshots of the training")
    options.setting(p, "processes", 1, "processes that train together and share --threads")
    options.arithmetic(p)

    p = options.verb(verbs, count, "count")
    p.add_argument("--task", required=True)
    options.files(p, "model", "base", "data", "head", "finetuned", "counts")
    options.arithmetic(p)

    p = options.verb(verbs, vector, "vector")
    options.files(p, "base", "finetuned", "output")

    p = options.verb(verbs, corpus, "corpus")
    p.add_argument("--pictures", type=int, required=True)
    p.add_argument("--resolution", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    options.files(p, "output")

    p = options.verb(verbs, pretrain, "pretrain")
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--batch", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    options.files(p, "model", "output", "words")
    options.many(p, "corpus")
    options.threads(p)


def base(args: argparse.Namespace) -> None:
    """Write the base model's weights in float32, and an adapter that does nothing yet."""
    import numpy as np
    from tally.checkpoints import open_checkpoint, save
    from tally.files import sha256
    from tally.models.kinds import adapter, check_weights, kind_of, once

    source, kind = open_checkpoint(args.model), kind_of(args.model.parent)
    check_weights(source, kind, args.model.parent)
    weights = {name: source.float32(name) for name in once(source, kind)}
    if args.adapter != "none":
        weights |= {name: np.ones(shape, np.float32) for name, shape in adapter(source, kind).items()}
    save(args.output, weights, "base", {"source_sha256": sha256(args.model)})


def prepare(args: argparse.Namespace) -> None:
    """Bring the examples of a task into the form that the model reads, once; --manifest has the sha256 of each.

    Published pictures are decoded by --threads processes; killed, the next call goes on where it was.
    """
    from pathlib import Path

    from tally.checkpoints import save
    from tally.data.cache import cache, manifest
    from tally.data.questions import Questions
    from tally.data.task import Published
    from tally.data.tasks import task
    from tally.data.text_task import TextTask
    from tally.errors import TallyError
    from tally.files import read_json
    from tally.models.kinds import kind_of

    row, folder, data = task(args.task), args.model.parent, Path(args.data)
    forms = {Questions: "questions", TextTask: "texts"}
    reads, gives, cut = kind_of(folder).reads, forms.get(type(row), "images"), args.long == "cut"
    if reads != gives:
        raise TallyError(f"{row.name} is a task of {gives}, but {folder} reads {reads}; take another task or model")
    if isinstance(row, Questions):
        from tally.data.qa import prepare as prepare_questions
        from tally.models.tokens import Tokenizer

        arrays = prepare_questions(row, Tokenizer(folder), args.context, cut=cut, data=data)
    elif isinstance(row, TextTask):
        from tally.data.texts import prepare as prepare_texts
        from tally.models.tokens import Tokenizer

        arrays = prepare_texts(row, Tokenizer(folder), args.context, cut=cut, resources=args.resources)
    else:
        from tally.data.prepare import prepare as prepare_images

        resolution = read_json(args.model)["model_cfg"]["vision_cfg"]["image_size"]
        if isinstance(row.source, Published):
            cache(row, resolution, data=data, output=args.output, form=args.source, processes=args.threads)
            manifest(args.output, args.manifest)
            return
        arrays = prepare_images(row, resolution, resources=args.resources)
    save(args.output, arrays, "data", {"task": row.name, "classes": list(row.classes)})
    manifest(args.output, args.manifest)


def head(args: argparse.Namespace) -> None:
    """Build the zero-shot classifier of a task and count what the base gets right with it."""
    from tally.accelerators import take
    from tally.checkpoints import open_checkpoint, save
    from tally.data.tasks import task
    from tally.evaluate import Examiner, precision, tensors

    device = take(args.device)
    model, row = options.model(args), task(args.task)
    weights = tensors(open_checkpoint(args.base))
    text = args.model.with_name("text.safetensors")  # of a model that keeps apart what only heads are made with
    if text.exists():
        weights |= tensors(open_checkpoint(text))
    classifier = model.head(weights, row.classes, row.templates)
    save(args.output, {"head": classifier.numpy()}, "head", {"task": row.name, "classes": list(row.classes)})
    _write_counts(args, Examiner(model, precision(args.precision, device), device=device), weights, classifier)


def finetune(args: argparse.Namespace) -> None:
    """Fine-tune the base on one task and count what the result gets right.

    Stopped, it goes on where it was: --output with the ending .snapshots is a folder of snapshots of the training,
    written now and then, on SIGUSR1, and on SIGTERM, which also stops it.
    With --processes, or started by torchrun, several processes train one model, each on a device of its own.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until the training listens, nothing is there to be saved
    import torch
    from tally import progress
    from tally.accelerators import take
    from tally.checkpoints import open_checkpoint, save
    from tally.evaluate import Examiner, load_split, precision, tensors
    from tally.files import sha256
    from tally.finetune import Stopping
    from tally.finetune import finetune as train
    from tally.ranks import joined, multiply
    from tally.snapshots import Keeper

    multiply(args.processes, args.device)
    device = take(args.device)
    dtype = precision(args.precision, device)
    model = options.model(args)
    examples = load_split(args.data, "train")
    if args.epochs is not None:
        args.steps = args.epochs * math.ceil(len(examples.labels) / args.batch)
    recipe = {key: getattr(args, key) for key in RECIPE}
    early = {key: getattr(args, key) for key in EARLY} if args.check else {}
    # two tasks of one seed see different orders; the name decides, so that a suite's order does not
    order = int.from_bytes(hashlib.sha256(f"{args.seed} {args.task}".encode()).digest()[:4])
    base = open_checkpoint(args.base)
    weights, frozen = tensors(base, model.domain), tensors(base, model.frozen)
    classifier = tensors(open_checkpoint(args.head))["head"]
    metadata = {
        "task": args.task,
        "seed": args.seed,
        "recipe": recipe | early,
        "precision": str(dtype),
        "base_sha256": sha256(args.base),
    }
    made_from = {f"{name}_sha256": sha256(getattr(args, name)) for name in ("model", "data", "head")}
    with joined(device) as ranks:
        torch.set_num_threads(max(args.threads // ranks.world, 1))
        progress.quiet |= ranks.rank > 0
        folder = args.output.with_suffix(".snapshots")
        with Keeper(folder, metadata | made_from, args.minutes, ranks) as keeper, progress.timed("training"):
            start = keeper.newest()
            done = start.step if start else 0
            steps = iter(progress.bar(range(done, args.steps), f"fine-tune {args.task}", args.steps, "step", done))
            examiner, val = Examiner(model, dtype, device=device), load_split(args.data, "val") if early else None
            examiner = examiner._replace(frozen=examiner.cast(frozen) if early else frozen)

            def score(theta) -> int:
                return int(examiner.hits(examiner.cast(theta), classifier, val).sum())

            weights = train(
                weights, model, classifier, examples, frozen=frozen, **recipe, seed=order, dtype=dtype,
                device=device, ranks=ranks, stopping=Stopping(score, **early) if early else None, start=start, report=lambda step, loss: next(steps), keep=keeper.keep,
            )  # fmt: skip
    if ranks.rank > 0:
        return
    save(args.output, {name: w.numpy() for name, w in weights.items()}, "finetuned", metadata)
    _write_counts(args, Examiner(model, dtype, device=device), frozen | weights, classifier)
    keeper.done()


def count(args: argparse.Namespace) -> None:
    """Count what a fine-tuned model gets right that was not trained here."""
    from tally.accelerators import take
    from tally.checkpoints import open_checkpoint
    from tally.evaluate import Examiner, precision, tensors
    from tally.published import provenance

    device = take(args.device)
    model, finetuned = options.model(args), open_checkpoint(args.finetuned)
    weights = tensors(open_checkpoint(args.base), model.frozen) | tensors(finetuned)
    classifier = tensors(open_checkpoint(args.head))["head"]
    examiner = Examiner(model, precision(args.precision, device), device=device)
    _write_counts(args, examiner, weights, classifier, provenance=provenance(finetuned.metadata))


def _write_counts(args: argparse.Namespace, examiner, weights, classifier, **facts) -> None:
    """Count on validation and test data. `weights` hold the domain's and the frozen ones; `facts` stand beside the counts."""
    import torch
    from tally.evaluate import load_split
    from tally.files import write_json
    from tally.progress import timed
    from tally.statistics import pack_hits

    torch.set_num_threads(args.threads)
    read = examiner.model.domain + examiner.model.frozen
    half = examiner.cast({name: w for name, w in weights.items() if name.startswith(read)})
    with timed("evaluation"):
        splits = {s: pack_hits(examiner.hits(half, classifier, load_split(args.data, s))) for s in ("val", "test")}
    write_json(args.counts, {"task": args.task, **splits, **facts})


def vector(args: argparse.Namespace) -> None:
    """Subtract the base from a fine-tuned model: the task vector."""
    from tally.checkpoints import create, open_checkpoint
    from tally.files import sha256
    from tally.streaming import walk
    from tally.vectors import difference

    finetuned = open_checkpoint(args.finetuned)
    tau = difference(args.base, {"task": finetuned}, domain=finetuned.names)
    metadata = {"finetuned_sha256": sha256(args.finetuned), "base_sha256": sha256(args.base)}
    with create(args.output, tau.layout("F32"), "task_vector", metadata) as out:
        flat = out.flat()

        def visit(_ops, lo, hi, chunk):
            flat[lo:hi] = chunk[0]

        walk(tau, visit)


def corpus(args: argparse.Namespace) -> None:
    """Draw a shard of the pre-training corpus."""
    from tally.checkpoints import save
    from tally.data.corpus import corpus as draw

    images, captions = draw(args.pictures, args.resolution, args.seed)
    save(args.output, {"images": images}, "corpus", {"captions": captions})


def pretrain(args: argparse.Namespace) -> None:
    """Train the embedded base model on the corpus."""
    import numpy as np
    import torch
    from tally.checkpoints import open_checkpoint, save
    from tally.files import read_json, write_json
    from tally.models.clip import Clip
    from tally.models.words import Words
    from tally.pretrain import initial_weights
    from tally.pretrain import pretrain as train
    from tally.progress import bar, timed

    torch.set_num_threads(args.threads)
    config = read_json(args.model)
    shards = [open_checkpoint(path) for path in args.corpus]
    images = torch.from_numpy(np.concatenate([shard["images"] for shard in shards]))
    captions = [caption for shard in shards for caption in json.loads(shard.metadata["captions"])]
    words = Words.learn(captions, config["model_cfg"]["text_cfg"]["vocab_size"])
    recipe = {
        "steps": args.steps,
        "batch": args.batch,
        "lr": 1e-3,
        "warmup": 200,
        "weight_decay": 0.1,
        "seed": args.seed,
    }
    steps = iter(bar(range(args.steps), "pre-train", unit="step"))
    with timed("training"):
        weights = train(
            initial_weights(args.model, args.seed), Clip.from_config(config), words, images, captions,
            **recipe, report=lambda step, loss: next(steps),
        )  # fmt: skip
    write_json(args.words, words.words)
    save(
        args.output,
        {name: w.half().numpy() for name, w in weights.items()},
        "base",
        {"recipe": recipe, "pictures": len(captions)},
    )
