"""One real run of the whole workflow, seconds of training, and its numbers computed another way."""

import base64
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import tally
import torch
from safetensors.torch import load_file
from workflow_runner import MICRO, ROOT, messages, planned, snakemake, with_config

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("run")]

TASKS = ("digits", "colors", "charts")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    run = snakemake("--cores", "2", "--config", f"results={folder}", "precision=fp32")
    assert run.returncode == 0, run.stdout[-4000:]
    assert "core-seconds" in run.stdout  # the summary
    return folder


@pytest.fixture(scope="module")
def store(results) -> Path:
    return results / "mini-clip"


def again(results, **config):
    return snakemake("--dry-run", config=with_config(results, precision="fp32", **config))


def vectors(store) -> dict[str, torch.Tensor]:
    """Task vectors by plain subtraction, flat, names sorted."""
    base = load_file(store / "base.safetensors")
    out = {}
    for task in TASKS:
        theta = load_file(store / "finetuned" / f"{task}.safetensors")
        out[task] = torch.cat([(theta[name] - base[name]).flatten() for name in sorted(theta)])
    return out


def flat(path) -> torch.Tensor:
    tensors = load_file(path)
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def accuracy(store, weights, task) -> np.ndarray:
    """Test answers of a model through open_clip's own module."""
    config = json.loads((ROOT / "resources" / "mini-clip" / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CLIP(**config).eval()
    model.load_state_dict(load_file(store / "base.safetensors") | weights, strict=False)
    data, head = (
        load_file(store / "data" / f"{task}.safetensors"),
        load_file(store / "heads" / f"{task}.safetensors")["head"],
    )
    with torch.inference_mode():
        features = model.encode_image((data["test.inputs"] / 255 - 0.5) / 0.25, normalize=True)
    return ((features @ head.T).argmax(1) == data["test.labels"]).numpy()


def restored(store, vector) -> dict[str, torch.Tensor]:
    base = load_file(store / "base.safetensors")
    theta, start = {}, 0
    for name in sorted(n for n in base if n.startswith("visual.")):
        size = base[name].numel()
        theta[name] = base[name] + vector[start : start + size].view(base[name].shape)
        start += size
    return theta


def test_task_vectors_and_their_sum(store):
    tau = vectors(store)
    for task in TASKS:
        assert torch.equal(flat(store / "task_vectors" / f"{task}.safetensors"), tau[task])
        assert tau[task].abs().max() > 0
    expected = tau["charts"] + tau["colors"] + tau["digits"]
    assert torch.equal(flat(store / "micro" / "merged" / "task-arithmetic.safetensors"), expected)


@pytest.mark.parametrize("method", ["task-arithmetic", "ties"])
def test_masks_votes_and_consensus(store, method):
    tau, suite = vectors(store), store / "micro"
    merged = flat(suite / "merged" / f"{'ties-sum' if method == 'ties' else method}.safetensors")
    found = json.loads((suite / "masks" / f"{method}.json").read_text())["tasks"]
    packed = load_file(suite / "masks" / f"{method}.safetensors")
    votes = torch.zeros(merged.shape, dtype=torch.uint8)
    for task in TASKS:
        mask = tau[task].abs() >= torch.tensor(found[task]["lambda"]) * (merged - tau[task]).abs()
        stored = np.unpackbits(packed[task].numpy(), count=mask.numel()).astype(bool)
        assert np.array_equal(stored, mask.numpy())
        assert found[task]["density"] == pytest.approx(mask.float().mean().item(), abs=1e-6)
        best = max(row["correct"] for row in found[task]["search"])
        assert found[task]["lambda"] == min(row["lambda"] for row in found[task]["search"] if row["correct"] == best)
        votes += mask
    assert torch.equal(flat(suite / "votes" / f"{method}.safetensors"), votes)
    profile = json.loads((suite / "votes" / f"{method}.json").read_text())["profile"]
    np.testing.assert_allclose(profile, torch.bincount(votes, minlength=4).numpy() / votes.numel())
    for k in (1, 2):
        assert torch.equal(
            flat(suite / "consensus" / f"consensus-{method}" / f"k{k}.safetensors"), merged * (votes >= k)
        )


def test_random_consensus_keeps_as_many_weights_per_tensor(store):
    suite = store / "micro"
    for k in (1, 2):
        chance = load_file(suite / "consensus" / "random-consensus" / f"k{k}.safetensors")
        votes = load_file(suite / "votes" / "task-arithmetic.safetensors")
        merged = load_file(suite / "merged" / "task-arithmetic.safetensors")
        for name, tensor in chance.items():
            kept = tensor != 0
            # a kept weight whose merged value is 0 cannot be told from a removed one
            assert 0 <= (votes[name] >= k).sum() - kept.sum() <= (merged[name] == 0).sum()
            assert torch.equal(tensor[kept], merged[name][kept])


def test_main_table_against_open_clip_and_plain_means(store):
    """The rows of the main table from scratch: open_clip's module, torch, and means."""
    rows = {
        (r["method"], r["k"]): r
        for r in csv.DictReader((store / "micro" / "tables" / "main.csv").read_text().splitlines())
    }
    tau, base = vectors(store), load_file(store / "base.safetensors")
    image = {name: w for name, w in base.items() if name.startswith("visual.")}
    fine = {t: accuracy(store, load_file(store / "finetuned" / f"{t}.safetensors"), t).mean() for t in TASKS}

    def check(method, models, k=""):
        right = {t: accuracy(store, models[t], t).mean() for t in TASKS}
        row = rows[method, k]
        # products in another order may turn an answer that stands on the edge
        assert float(row["absolute"]) == pytest.approx(100 * np.mean([*right.values()]), abs=0.11), method
        assert float(row["normalized"]) == pytest.approx(100 * np.mean([right[t] / fine[t] for t in TASKS]), abs=0.3), (
            method
        )
        assert float(row["normalized_low"]) <= float(row["normalized"]) <= float(row["normalized_high"])

    check("zero-shot", dict.fromkeys(TASKS, image))
    check("fine-tuned", {t: load_file(store / "finetuned" / f"{t}.safetensors") for t in TASKS})
    total = tau["charts"] + tau["colors"] + tau["digits"]
    check("weight-average", dict.fromkeys(TASKS, restored(store, total / 3)))
    alpha = json.loads((store / "micro" / "accuracy" / "task-arithmetic.json").read_text())["alpha"]
    check("task-arithmetic", dict.fromkeys(TASKS, restored(store, alpha * total)))
    masks = load_file(store / "micro" / "masks" / "task-arithmetic.safetensors")
    bits = {t: torch.from_numpy(np.unpackbits(masks[t].numpy(), count=len(total))) for t in TASKS}
    check("tall-task-arithmetic", {t: restored(store, bits[t] * total) for t in TASKS})
    ties = flat(store / "micro" / "merged" / "ties-sum.safetensors")
    masks = load_file(store / "micro" / "masks" / "ties.safetensors")
    kept = {t: torch.from_numpy(np.unpackbits(masks[t].numpy(), count=len(total))) for t in TASKS}
    check("tall-ties", {t: restored(store, kept[t] * ties) for t in TASKS})
    votes = sum(bits[t].int() for t in TASKS)
    for k in (1, 2):
        alpha = json.loads((store / "micro" / "accuracy" / f"consensus-task-arithmetic-k{k}.json").read_text())["alpha"]
        check("consensus-task-arithmetic", dict.fromkeys(TASKS, restored(store, alpha * (votes >= k) * total)), str(k))

    def largest(v, share):
        return v.abs() >= v.abs().sort().values[len(v) - int(len(v) * share) - 1]

    check("magnitude-pruning", {t: restored(store, v * largest(v, 1 / 3)) for t, v in tau.items()})
    check("magnitude-masking", {t: restored(store, total * largest(v, 0.1)) for t, v in tau.items()})

    P, F = len(total), sum(w.numel() for w in base.values()) - len(total)
    assert float(rows["zero-shot", ""]["gigabits"]) == pytest.approx(32 * (P + F) / 1e9, rel=1e-5)
    assert float(rows["fine-tuned", ""]["gigabits"]) == pytest.approx(32 * (3 * P + F) / 1e9, rel=1e-5)
    assert float(rows["tall-ties", ""]["gigabits"]) == pytest.approx((32 * (2 * P + F) + 3 * P) / 1e9, rel=1e-5)


def test_alpha_is_the_best_of_the_full_grid_on_validation(store):
    for path in (store / "micro" / "accuracy").glob("*.json"):
        record = json.loads(path.read_text())
        complete = [row for row in record["search"] if row["normalized"] is not None]
        if record["search"]:
            best = max(complete, key=lambda row: (row["normalized"], -row["alpha"]))
            assert record["alpha"] == best["alpha"]
            assert all(row["bound"] <= best["normalized"] for row in record["search"])
        for count in record["test"].values():
            bits = np.unpackbits(np.frombuffer(base64.b64decode(count["hits"]), dtype=np.uint8))
            assert bits.sum() == count["correct"]


def test_bundle_restores_the_masked_model(store, tmp_path):
    out = tmp_path / "digits.safetensors"
    bundle = store / "micro" / "bundles" / "ties.safetensors"
    subprocess.run(
        [sys.executable, "-m", "tally", "restore", bundle, "--task", "digits", "--output", out],
        check=True,
        cwd=ROOT / "workflow",
    )
    masks = load_file(store / "micro" / "masks" / "ties.safetensors")
    merged = flat(store / "micro" / "merged" / "ties-sum.safetensors")
    expected = restored(store, merged * torch.from_numpy(np.unpackbits(masks["digits"].numpy(), count=len(merged))))
    model, base = load_file(out), load_file(store / "base.safetensors")
    assert model.keys() == base.keys()
    for name, weight in (base | expected).items():
        assert torch.equal(model[name], weight), name


@pytest.mark.parametrize("method", ["task-arithmetic", "ties"])
def test_storage_formats_are_real_files_and_their_models(store, tmp_path, method):
    """Bits and answers of the smallest format, from its own bundle, through open_clip's module."""
    suite, names = store / "micro", {"task-arithmetic": "task-arithmetic", "ties": "ties-sum"}
    out, given = tmp_path / "b.safetensors", ["--base-dtype", "fp16", "--vector-dtype", "int8", "--mask-codec", "zstd"]
    subprocess.run(
        [sys.executable, "-m", "tally", "bundle", "--method", method, "--base", store / "base.safetensors", "--merged",
         suite / "merged" / f"{names[method]}.safetensors", "--masks", suite / "masks" / f"{method}.safetensors",
         "--search", suite / "masks" / f"{method}.json", "--output", out, *given], check=True, cwd=ROOT / "workflow",
    )  # fmt: skip
    record = json.loads((suite / "storage" / f"{method}.json").read_text())["formats"]["fp16-int8-zstd"]
    assert record["bytes"] == out.stat().st_size
    bundle = tally.open_bundle(out)
    right = {t: accuracy(store, dict(bundle[t]), t) for t in TASKS}
    for task in TASKS:
        assert record["test"][task]["correct"] == pytest.approx(right[task].sum(), abs=1)

    rows = {
        (r["method"], r["base"], r["vector"], r["codec"]): r
        for r in csv.DictReader((suite / "tables" / "storage.csv").read_text().splitlines())
    }
    row, paper = (rows[f"tall-{method}", *name.split("-")] for name in ("fp16-int8-zstd", "fp32-fp32-packed"))
    weights = 3 * len(flat(suite / "merged" / "task-arithmetic.safetensors"))
    assert float(row["bits"]) == pytest.approx(8 * out.stat().st_size / weights, rel=1e-5)
    assert float(paper["bits_base"]) + float(paper["bits_vector"]) == pytest.approx(64 / 3, rel=1e-5)
    assert float(paper["bits_masks"]) == pytest.approx(1, rel=1e-5)
    assert float(row["share"]) < 50
    main = {r["method"]: r for r in csv.DictReader((suite / "tables" / "main.csv").read_text().splitlines())}
    assert float(main[f"tall-{method}"]["normalized"]) == float(paper["normalized"])
    assert float(main[f"tall-{method}-fp16-int8-zstd"]["normalized"]) == float(row["normalized"])
    assert float(main[f"tall-{method}-fp16-int8-zstd"]["gigabits"]) == pytest.approx(
        8e-9 * out.stat().st_size, rel=1e-3
    )
    assert (suite / "figures" / "storage.pdf").exists()


def test_the_papers_format_has_the_answers_of_the_masked_model(store):
    """Which the workflow takes for granted and does not examine again."""
    bundle = tally.open_bundle(store / "micro" / "bundles" / "ties.safetensors")
    counts = json.loads((store / "micro" / "accuracy" / "tall-ties.json").read_text())["test"]
    for task in TASKS:
        assert counts[task]["correct"] == pytest.approx(accuracy(store, dict(bundle[task]), task).sum(), abs=1)


def test_a_second_run_does_nothing(results):
    assert planned(again(results).stdout) == {}


def test_where_it_runs_and_older_trainings_do_nothing(results):
    recipe = {"steps": 6, "batch": 32, "warmup": 2, "accumulate": 1}
    assert planned(again(results, device="cuda", finetune=recipe).stdout) == {}


def test_another_order_of_the_tasks_does_nothing_but_tables_and_figures(results):
    run = again(results, suites={"micro": ["charts", "digits", "colors"]})
    assert planned(run.stdout).keys() <= {"table", "figure", "storage_table"}


def test_one_more_task_trains_one_model(results):
    run = again(results, suites={"micro": [*TASKS, "pies"]})
    assert planned(run.stdout) == {
        "prepare": 1, "head": 1, "finetune": 1, "vector": 1,  # of the new task alone
        "merge_vectors": 3, "mask": 2, "vote": 2, "consensus": 6, "evaluate": 3, "evaluate_consensus": 6, "magnitude": 3,
        "table": 1, "figure": 5, "bundle": 2, "formats": 2, "storage_table": 1,
    }  # fmt: skip
    assert [m for m in messages(run.stdout) if "Fine-tune" in m] == ["Fine-tune on pies"]


def test_another_learning_rate_for_one_task_trains_that_task(results):
    run = again(results, tasks={"colors": {"lr": 0.002}})
    assert [m for m in messages(run.stdout) if "Fine-tune" in m] == ["Fine-tune on colors"]
    assert "prepare" not in planned(run.stdout)


def test_a_damaged_file_is_named(store, tmp_path):
    damaged = tmp_path / "charts.safetensors"
    shutil.copy(store / "task_vectors" / "charts.safetensors", damaged)
    with damaged.open("r+b") as file:
        file.truncate(damaged.stat().st_size // 2)
    run = subprocess.run(
        [sys.executable, "-m", "tally", "merge-vectors", "--method", "ties", "--vectors", damaged, store / "task_vectors" / "digits.safetensors",
         "--output", tmp_path / "out.safetensors"], text=True, capture_output=True, cwd=ROOT / "workflow",
    )  # fmt: skip
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert str(damaged) in run.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_report_is_one_page_to_browse(results, tmp_path):
    page = tmp_path / "report.zip"
    run = snakemake("--report", page, "--config", f"results={results}", "precision=fp32")
    assert run.returncode == 0, run.stdout[-3000:]
    assert page.stat().st_size > 100_000
    assert MICRO.exists()
