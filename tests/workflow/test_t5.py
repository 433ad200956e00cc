"""T5 through every stage to the tables: the commands that Snakemake plans, run here one after the other."""

import csv
import json
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tally.cli import main
from tally.data import questions
from tally.data.tasks import TASKS
from tally.models import kinds, t5
from tiny_t5 import MINIATURES, examples, make
from workflow_runner import ROOT, in_this_process, planned, snakemake

pytest.importorskip("transformers")
pytestmark = pytest.mark.workflow

SUITE = questions.SUITES["qa-11"]
HELD = 40  # validation examples, in place of up to a thousand
CONFIG = {
    "model": "tiny-t5", "suites": {"tiny": list(SUITE)}, "precision": "fp32", "formats": [], "text": {"context": 96},
    "methods": ["task-arithmetic", "ties", "consensus-task-arithmetic", "tall-task-arithmetic"],
    "merging": {"ks": [1], "alphas": [0.5, 1.0], "lambdas": [0.4], "share_of": "all"},
    "finetune": {"steps": 30, "batch": 16, "lr": 0.02, "warmup": 0, "weight_decay": 0, "schedule": "constant"},
}  # fmt: skip


def run(folder, results="results", **changes):
    """Through all stages; returns the folder of the model's results."""
    config = folder / "config.yaml"
    paths = {name: str(folder / name) for name in ("resources", "data")} | {"results": str(folder / results)}
    config.write_text(yaml.safe_dump(CONFIG | paths | changes))
    in_this_process(config)
    return folder / results / "tiny-t5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    make(folder / "resources" / "tiny-t5")
    for name in SUITE:
        row = questions.TASKS[name]
        data = folder / "data" / "questions" / name
        examples(data / f"{row.train}.jsonl", miniature(name), range(HELD + 40))
        examples(data / f"{row.test}.jsonl", miniature(name), range(HELD + 40, HELD + 60))
    with pytest.MonkeyPatch.context() as rows:
        for name in SUITE:
            rows.setitem(TASKS, name, replace(TASKS[name], held=HELD))
        yield folder


def miniature(name):
    if name != "ropes":
        return MINIATURES[name]
    return lambda i: MINIATURES[name](i) | {"answers": {"text": ["team a"]}}  # which can be learned in 30 steps


@pytest.fixture(scope="module")
def store(folder):
    return run(folder)


def test_the_tables_and_figures_are_there_and_count_every_weight_once(store):
    figures = {path.stem for path in (store / "tiny" / "figures").glob("*.png")}
    assert figures == {"overview", "radar", "agreement", "density", "accuracy_vs_k"}
    rows = {
        row["method"]: row for row in csv.DictReader((store / "tiny" / "tables" / "main.csv").read_text().splitlines())
    }
    assert float(rows["fine-tuned"]["absolute"]) > float(rows["zero-shot"]["absolute"])
    base = load_file(store / "base.safetensors")
    P, F = (sum(w.numel() for n, w in base.items() if n.startswith(part)) for part in (t5.DOMAIN, t5.FROZEN))
    assert sum(w.numel() for w in base.values()) == P + F
    assert F == 48 * 16
    assert float(rows["zero-shot"]["gigabits"]) == pytest.approx(32 * (P + F) / 1e9, abs=1e-6)
    assert float(rows["tall-task-arithmetic"]["gigabits"]) == pytest.approx(
        (32 * (2 * P + F) + len(SUITE) * P) / 1e9, abs=1e-6
    )


def test_the_counts_are_those_of_transformers(store, folder):
    """The fine-tuned model of each task, in transformers' module, an example and a choice at a time."""
    import transformers

    module = transformers.T5ForConditionalGeneration.from_pretrained(folder / "resources" / "tiny-t5").eval()
    for task in SUITE:
        assert module.lm_head.weight.data_ptr() != module.shared.weight.data_ptr()
        module.load_state_dict(load_file(store / "finetuned" / f"{task}.safetensors"), strict=False)
        data, right = load_file(store / "data" / f"{task}.safetensors"), 0
        for row, label in zip(data["test.inputs"].long(), data["test.labels"]):
            question, blocks = row[:96], row[96:].view(questions.CHOICES, questions.CHOICE)
            question = question[question != 0]
            choices = [block[block != 0] for block in blocks if block.any()]
            if len(choices) == 1:
                with torch.no_grad():
                    written = module.generate(question[None], max_new_tokens=len(choices[0]), do_sample=False)[0, 1:]
                right += torch.equal(written, choices[0])
                continue
            with torch.no_grad():
                losses = [module(input_ids=question[None], labels=choice[None]).loss for choice in choices]
            right += int(torch.stack(losses).argmin()) == int(label)
        counted = json.loads((store / "finetuned" / f"{task}.json").read_text())["test"]["correct"]
        assert counted == pytest.approx(right, abs=1), task


def test_an_adapter_is_the_task_vector_and_later_stages_do_not_know(folder, store):
    """(IA)^3: every stage after fine-tuning as it is, on vectors that begin at one."""
    learning = CONFIG["finetune"] | {"adapter": "ia3", "check": 10, "patience": 2}
    methods = ["task-arithmetic", "ties", "consensus-ties", "tall-task-arithmetic", "tall-ties", "magnitude-masking"]
    own = run(
        folder, results="ia3", finetune=learning, suites={"tiny": ["quartz", "wsc"]}, formats=["fp16-int8-zstd"],
        methods=methods, merging=CONFIG["merging"] | {"share_of": "domain"},
    )  # fmt: skip
    base, plain = load_file(own / "base.safetensors"), load_file(store / "base.safetensors")
    vectors = {name for name in base if name.startswith(kinds.ADAPTER)}
    assert set(base) - vectors == set(plain)
    assert all(torch.equal(base[name], torch.ones_like(base[name])) for name in vectors)
    for part in ("finetuned/wsc", "task_vectors/wsc", "tiny/merged/task-arithmetic"):
        assert set(load_file(own / f"{part}.safetensors")) == vectors
    tau = load_file(own / "task_vectors" / "wsc.safetensors")
    tuned = load_file(own / "finetuned" / "wsc.safetensors")
    assert all(torch.equal(tau[name], tuned[name] - 1) for name in vectors)
    assert any(tau[name].abs().max() > 0 for name in vectors)
    ties = load_file(own / "tiny" / "merged" / "ties.safetensors")
    trimmed = sum((tau != 0).sum() for tau in ties.values()) / sum(tau.numel() for tau in ties.values())
    assert 0.2 <= trimmed <= 0.4  # a fifth of each of two task vectors
    rows = {
        row["method"]: row for row in csv.DictReader((own / "tiny" / "tables" / "main.csv").read_text().splitlines())
    }
    P, F = sum(base[n].numel() for n in vectors), sum(w.numel() for w in plain.values())
    assert float(rows["tall-task-arithmetic"]["gigabits"]) == pytest.approx((32 * (2 * P + F) + 2 * P) / 1e9, abs=1e-6)


def test_the_papers_configs_plan_every_task(folder, tmp_path):
    configs = {}
    for name, suite in (("nlp7", "nlp-7"), ("qa8", "qa-8"), ("11", "qa-11")):
        configs[name] = yaml.safe_load((ROOT / "config" / f"t5-large-{name}.yaml").read_text())
        assert {name: tuple(tasks) for name, tasks in configs[name]["suites"].items()} == {
            suite: questions.SUITES[suite]
        }
    assert all(config | {"suites": {}} == configs["11"] | {"suites": {}} for config in configs.values())
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / configs["11"]["model"]).symlink_to(folder / "resources" / "tiny-t5")
    changed = tmp_path / "config.yaml"
    paths = {"resources": str(tmp_path / "resources"), "results": str(tmp_path)}
    suites = {name: tasks for config in configs.values() for name, tasks in config["suites"].items()}
    changed.write_text(yaml.safe_dump(configs["11"] | paths | {"suites": suites}))
    run = snakemake("--dry-run", config=changed)
    assert run.returncode == 0, run.stdout[-2000:]
    jobs = planned(run.stdout)
    assert (jobs["prepare"], jobs["finetune"], jobs["mask"], jobs["bundle"]) == (11, 11, 6, 6)


def test_a_task_for_another_model_is_one_line(folder, capsys):
    model, out = folder / "resources" / "tiny-t5" / "config.json", folder / "no.safetensors"
    given = ["--model", str(model), "--resources", "resources", "--data", str(folder / "data"), "--output", str(out)]
    given += ["--manifest", str(folder / "no.tsv")]
    capsys.readouterr()
    assert main(["prepare", "--task", "mnist", *given]) == 2
    assert "mnist is a task of images, but" in capsys.readouterr().err
    assert main(["prepare", "--task", "wsc", "--context", "9", "--long", "refuse", *given]) == 2
    assert "texts are longer than the context of 9 tokens" in capsys.readouterr().err
    other = [given[0], str(ROOT / "resources" / "mini-clip" / "open_clip_config.json"), *given[2:]]
    assert main(["prepare", "--task", "wsc", *other]) == 2
    assert "wsc is a task of questions, but" in capsys.readouterr().err
    weights = str(ROOT / "resources" / "mini-clip" / "model.safetensors")
    assert main(["base", "--model", weights, "--adapter", "ia3", "--output", str(out)]) == 2
    assert "an adapter can be trained on a T5 alone" in capsys.readouterr().err
    assert not out.exists()


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path, capsys):
    (tmp_path / "tokenizer.json").symlink_to(folder / "resources" / "tiny-t5" / "tokenizer.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": 20}))
    given = ["--model", str(tmp_path / "config.json"), "--resources", "resources", "--data", str(folder / "data")]
    out = ["--output", str(tmp_path / "out"), "--manifest", str(tmp_path / "out.tsv")]
    assert main(["prepare", "--task", "wsc", *given, *out]) == 2
    assert "take the tokenizer of that model" in capsys.readouterr().err
