# Config, names and the functions that rules share.

import functools
import math
import os
import re
import shlex
import sys
from collections import Counter

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from tally.checkpoints import open_checkpoint  # noqa: E402
from tally.config import check  # noqa: E402
from tally.data.task import Published, contents, fingerprint, modules  # noqa: E402
from tally.data.tasks import task  # noqa: E402
from tally.errors import TallyError  # noqa: E402
from tally.merging import METHODS as REGISTRY  # noqa: E402
from tally.models import kinds  # noqa: E402
from tally.models.architecture import architecture, weights_of  # noqa: E402
from tally.packages import PIP, folder_in  # noqa: E402
from tally.printed import has_table  # noqa: E402

try:
    validate(config, "../schemas/config.schema.yaml")
    check(config)
except (WorkflowError, TallyError) as error:
    lines = [line for line in str(error).splitlines() if line.startswith(("ValidationError", "On ", "config"))]
    raise WorkflowError("config: " + " ".join(lines)) from None


# The package is found without being installed, also inside a rule's conda environment. Without those environments
# `python` is the one that runs Snakemake, whether its environment is activated or not.
# The shell outlives a SIGTERM, for SLURM ends a job when it is gone: a training still has to write its snapshot.
# Where and how it runs is no part of what is made: it is neither in a command nor in params, which Snakemake compares.
HOW = {key.upper(): config[key] for key in ("device", "processes")}
HOW |= {key.upper(): int(config[key]) for key in ("compile", "verify")}
HOW |= {"MINUTES": config["snapshot_minutes"], "DATA": shlex.quote(config["data"])}
shell.prefix(
    f"trap : TERM; export PYTHONPATH={shlex.quote(workflow.basedir)}/workflow; "
    f"export {' '.join(f'TALLY_{name}={value}' for name, value in HOW.items())}; "
    + (
        ""
        if workflow.deployment_settings.deployment_method
        else f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
    )
)


BASE = config["base"]  # where the base model comes from, if it is no folder of resources
PUBLISHED = config["finetuned"]  # and the fine-tuned ones, if they are not trained here
OURS = not BASE["source"] or BASE["source"].startswith(PIP)  # the folder is there, in `resources` or in a package
MODEL = f"{config['resources']}/{config['model']}" if OURS else f"{config['results']}/{config['model']}/model"
if OURS and BASE["source"]:
    try:
        MODEL = os.path.relpath(folder_in(BASE["source"].removeprefix(PIP)))
    except TallyError as error:
        raise WorkflowError(f"config, base.source: {error}") from None


def kind_of_model():
    """What the model reads, by its folder; one that is still to come is a CLIP."""
    if not OURS:
        return kinds.CLIP
    if not Path(MODEL).is_dir():
        raise WorkflowError(f"config: the model has no folder {MODEL}; put it there (a T5: docs/t5.md says how)")
    try:
        return kinds.kind_of(Path(MODEL))
    except TallyError as error:
        raise WorkflowError(str(error)) from None


KIND = kind_of_model()
# Not in params, which Snakemake compares: what other models are made with has not changed.
ADAPTER = "" if config["finetune"]["adapter"] == "none" else f" --adapter {config['finetune']['adapter']}"
TEXT = f" --context {config['text']['context']} --long {config['text']['long']}" if KIND.tokenizer else ""


pathvars:
    store=f"{config['results']}/{config['model']}",
    model=MODEL,
    settings=f"{MODEL}/{KIND.config}",


# GPUs of a job that runs a model. With `auto` a machine's GPUs are used where there are any, but none is asked for.
GPUS = int(config["device"].startswith("cuda"))
SUITES = config["suites"]
MERGING = config["merging"]
METHODS = config["methods"]

# what the paper printed
PAPER = os.path.relpath(f"{workflow.basedir}/resources/paper/vision.json")
TABLES = ["main", "per_task", "paired", "choices"]

# methods that count votes: whose TALL masks
VOTERS = {name: row.masks for name, row in REGISTRY.items() if row.has_k}


wildcard_constraints:
    task="[A-Za-z0-9_.-]+",
    suite="[A-Za-z0-9.-]+",
    method="[a-z-]+",
    k=r"\d+",


def tasks(suite):
    """The tasks of a suite in one order, so that listing them in another changes nothing."""
    return sorted(SUITES[suite])


def all_tasks():
    return sorted({task for suite in SUITES.values() for task in suite})


def published():
    """The tasks whose fine-tuned models others published."""
    if not PUBLISHED["source"]:
        return []
    return [task for task in all_tasks() if not PUBLISHED["names"] or task in PUBLISHED["names"]]


def only(names):
    """A wildcard's constraint to these names; to nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def own_words():
    """The words of a model that has its own."""
    return "<model>/words.json" if OURS and KIND is kinds.CLIP else []


def tokenizer():
    """What the data of a model that reads texts are made with."""
    return f"<model>/{KIND.tokenizer}" if KIND.tokenizer else []


def text_weights():
    """What heads are made with beside the base, of a model that keeps it apart."""
    return [] if OURS else "<model>/text.safetensors"


def compared():
    """The suites whose tables the paper has."""
    return [suite for suite in SUITES if has_table(Path(PAPER), config["model"], tasks(suite))]


def of_tasks(pattern):
    """An input function: `pattern` for every task of the suite."""

    def files(wildcards):
        return collect(pattern, task=tasks(wildcards.suite))

    return files


def ks(suite):
    return range(1, len(SUITES[suite]) + 1) if MERGING["ks"] == "all" else MERGING["ks"]


def masked():
    """The merge methods whose TALL masks are built."""
    return [m.removeprefix("tall-") for m in METHODS if m.startswith("tall-")]


def storage_formats():
    """The storage formats whose bundles are measured."""
    return config["formats"] if masked() else []


def storage_outputs():
    """What compares the storage formats of each suite."""
    if not storage_formats():
        return []
    files = ["<store>/{suite}/tables/storage.csv", "<store>/{suite}/figures/storage.png"]
    return collect(files, suite=SUITES)


def figures():
    """The figures that the methods of this run can fill."""
    yield from ("overview", "radar")
    if masked():
        yield "agreement"
    if "task-arithmetic" in masked():
        yield "density"
    if any(method in VOTERS for method in METHODS):
        yield "accuracy_vs_k"


def candidates(suite):
    """Everything that is evaluated on a suite beside the base and the fine-tuned models."""
    for method in METHODS:
        if method in VOTERS:
            yield from (f"{method}-k{k}" for k in ks(suite))
        else:
            yield method


def scaled_vector(wildcards):
    """The vector that a candidate adds to the base, times alpha."""
    in_sum = wildcards.method == "ties" and MERGING["ties_aggregate"] == "sum"
    merged = REGISTRY["ties-sum" if in_sum else wildcards.method].merged
    return f"<store>/{wildcards.suite}/merged/{merged}.safetensors"


def masked_vector(wildcards):
    """The merged vector that a method's TALL masks are made against, and that its consensus thins out."""
    merged = REGISTRY[f"tall-{VOTERS.get(wildcards.method, wildcards.method)}"].merged
    return f"<store>/{wildcards.suite}/merged/{merged}.safetensors"


def grouped(name):
    """The group, where a profile has groups; other runs show their jobs one by one."""
    return name if workflow.group_settings.overwrite_groups else None


def group_of_vector(wildcards):
    """With the training that it ends, or with the other vectors where there is none."""
    return grouped("vectors" if wildcards.task in published() else "task")


def group_of_merged(wildcards):
    """With the TALL masks that are made against it, or with the evaluation of it where there are none."""
    with_masks = {REGISTRY[m].masks for m in METHODS if m in REGISTRY} - {None}
    with_masks |= {"task-arithmetic"} if any(m.startswith("magnitude") for m in METHODS) else set()
    compared_with = {REGISTRY[f"tall-{masks}"].merged for masks in with_masks}
    return grouped("masks" if wildcards.method in compared_with else "evaluate")


def method_code(wildcards):
    """The file of a merge method's own mathematics."""
    path = REGISTRY[wildcards.method].block.__module__
    return code(path.removeprefix("tally.").replace(".", "/"))


def alpha_options(method, suite):
    """The grid to search, or weight averaging's one value."""
    if method == "weight-average":
        return f"--alpha {1 / len(SUITES[suite])}"
    return f"--alphas {' '.join(map(str, MERGING['alphas']))}"


def share_options(share):
    """A share of each task vector, of the domain's weights or (authors' code) of the frozen ones too."""
    of = (
        ""
        if MERGING["share_of"] == "domain"
        else f" --frozen-of {config['results']}/{config['model']}/base.safetensors"
    )
    return f"--keep {share}{of}"


def ties_options(method):
    return share_options(MERGING["ties_keep"]) if method.startswith("ties") else ""


def magnitude_options(method):
    return share_options(MERGING["magnitude_keep"]) if method == "masking" else ""


def counted_too(wildcards):
    """The base, where shares count its frozen weights."""
    return [] if MERGING["share_of"] == "domain" else "<store>/base.safetensors"


def counts_of_suite(wildcards):
    """Everything that figures of a suite read."""
    suite = wildcards.suite
    return {
        "zero_shot": collect("<store>/heads/{task}.json", task=tasks(suite)),
        "finetuned": collect("<store>/finetuned/{task}.json", task=tasks(suite)),
        "accuracy": collect("<store>/{suite}/accuracy/{candidate}.json", suite=suite, candidate=candidates(suite)),
        "masks": collect("<store>/{suite}/masks/{method}.json", suite=suite, method=masked()),
        "votes": collect("<store>/{suite}/votes/{method}.json", suite=suite, method=masked()),
    }


def counts_with_storage(wildcards):
    """Everything that tables of a suite read."""
    methods = masked() if storage_formats() else []
    files = collect("<store>/{suite}/storage/{method}.json", suite=wildcards.suite, method=methods)
    return counts_of_suite(wildcards) | {"storage": files}


def shown(category, name):
    """Where the report files an output."""
    return {"category": category, "subcategory": "{suite}", "labels": {"suite": "{suite}", "content": name}}


def across(name):
    """Labels of what spans the suites."""
    return {"suite": "all", "content": name}


def recipe(wildcards):
    """The fine-tuning of one task as flags; only what concerns this task, so others' changes do not rerun it."""
    own = config["tasks"].get(wildcards.task, {})
    values = config["finetune"] | own
    values.pop("source", None)  # of the pictures
    # the task's own length goes before that of all
    by_epochs = "epochs" in own or (values["epochs"] and "steps" not in own)
    del values["steps" if by_epochs else "epochs"]
    if by_epochs and values["epochs"] == "task":
        values["epochs"] = task(wildcards.task).epochs
    del values["adapter"]  # which the base holds
    if values["check"] == 0:
        del values["patience"]
    for key, usual in (("accumulate", 1), ("schedule", "cosine"), ("check", 0)):
        if values[key] == usual:  # as trainings that are older than this key were made: they are not to be redone
            del values[key]
    return " ".join(f"--{key.replace('_', '-')} {value}" for key, value in sorted(values.items()))


def source_options(name):
    """The form of a published data set, where the config names one."""
    form = config["tasks"].get(name, {}).get("source", "auto")
    return "" if form == "auto" else f"--source {form}"


def decoders(name):
    """Processes that decode a task's pictures: many for a published data set, one for what is drawn here."""
    return 8 if isinstance(task(name).source, Published) else 1


def code(*names):
    """Sources as inputs: a changed method reruns what it made, and an untouched file (by content) nothing."""
    return [os.path.relpath(f"{workflow.basedir}/workflow/tally/{name}.py") for name in names]


def summary_options(workflow, started):
    """What the summary of a run is about: its folder, its jobs by stage, its cores if they are all on this machine."""
    store = Path(config["results"]) / config["model"]
    undone = set(workflow.dag.needrun_jobs())  # a failed run's: they neither ran nor were there
    logs = [Path(log) for job in workflow.dag.jobs if job not in undone for log in job.log]
    stages = Counter(
        path.relative_to(store / "logs").parts[0].removesuffix(".log") for path in logs if path.is_relative_to(store)
    )
    cores = f"--cores {workflow.cores}" if workflow.local_exec else ""
    planned = " ".join(f"{stage}={jobs}" for stage, jobs in stages.items())
    return f"{store} --started {started} {cores} --planned {planned}"


# Base, heads and fine-tuned models are shared between working copies by a run with --cache.
CACHE = "omit-software" if workflow.workflow_settings.cache is not None else False


def weights_mb():
    """Megabytes of the model's weights in float32; 0 if the model is not there, which Snakemake then says itself."""
    if not OURS:
        return 4 * weights_of(architecture(BASE["architecture"])) / 2**20
    path = Path(MODEL) / "model.safetensors"
    if not path.exists():
        return 0
    try:
        model = open_checkpoint(path)
    except TallyError as error:
        raise WorkflowError(str(error)) from None
    return 4 * sum(math.prod(model.shape(name)) for name in model.names) / 2**20


WEIGHTS_MB = weights_mb()


@functools.cache
def megabytes_of(path):
    """Size of a file. Kept, for every pass of the scheduler asks for those of all jobs that are ready."""
    return os.path.getsize(path) / 2**20


def minutes(most):
    """runtime of a job that runs the model: `most` for one of 400 MB (ViT-B/32) or more, its share for a smaller one."""
    return min(most, max(30, math.ceil(most * WEIGHTS_MB / 400)))


def memory(program, copies, per_task=0):
    """mem_mb of a rule, times the attempt: `program` MB, `copies` of the weights, more for each task, and its data."""

    def megabytes(wildcards, input, attempt):
        tasks = len(SUITES[wildcards.suite]) if per_task else 0
        data = input.get("data", [])
        images = sum(megabytes_of(str(path)) for path in ([data] if isinstance(data, str) else data))
        room = min(images, 4000)  # a memory map: what does not fit is read again
        return attempt * math.ceil(program + (copies + per_task * tasks) * WEIGHTS_MB + room)

    return megabytes
