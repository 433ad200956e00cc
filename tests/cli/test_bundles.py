import json
from collections import Counter

import numpy as np
import pytest
import torch
from tally.bundle import open_bundle
from tally.checkpoints import open_checkpoint, save
from tally.cli import main
from tally.files import sha256
from tally.storage import gigabits
from test_bundle import models


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """base.safetensors, t0 .. t2.safetensors; the working directory."""
    base, tuned = models()
    for name, model in {"base": base, **tuned}.items():
        save(tmp_path / f"{name}.safetensors", model, "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TUNED = [f"t{i}=t{i}.safetensors" for i in range(3)]
GIVEN = ["--base", "base.safetensors", "--finetuned", *TUNED]


def run(*args) -> int:
    return main([*map(str, args)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_compress_restore_inspect(folder, capsys):
    assert run("compress", *GIVEN, "--lambda", "t0=0.2", "t1=0.3", "t2=0.5", "--output", "b.safetensors") == 0
    bundle = open_bundle("b.safetensors", base="base.safetensors")
    assert (
        run("restore", "b.safetensors", "--task", "t1", "--base", "base.safetensors", "--output", "m.safetensors") == 0
    )
    found = open_checkpoint("m.safetensors")
    assert all(np.array_equal(found[name], bundle.weight("t1", name)) for name in bundle.base.names)
    capsys.readouterr()

    assert run("inspect", "b.safetensors", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert {task: row["lambda"] for task, row in facts["tasks"].items()} == {"t0": 0.2, "t1": 0.3, "t2": 0.5}
    masks = {task: bundle.mask(task, 0, bundle.size) for task in bundle}
    assert {task: row["density"] for task, row in facts["tasks"].items()} == {t: m.mean() for t, m in masks.items()}
    votes = sum(mask.astype(int) for mask in masks.values())
    assert facts["profile"] == [(votes == n).mean() for n in range(4)]
    assert facts["shares"]["general"] == pytest.approx((votes >= 2).mean())
    size = (folder / "b.safetensors").stat().st_size
    assert facts["bits"]["total"] == 8 * size
    assert facts["bits"]["masks"] == 3 * 20 * 8
    assert facts["bits"]["merged vector"] == 32 * 159
    assert facts["ratio"] == pytest.approx(3 * facts["base_bytes"] / (size + facts["base_bytes"]))
    assert sorted(facts["made_from"]["finetuned"]) == ["t0", "t1", "t2"]

    assert run("inspect", "b.safetensors") == 0
    text = capsys.readouterr().out
    assert "3 tasks, task-arithmetic, masks with >=" in text
    assert "the file does not hold its base; with the base's 0.001 MB it is 1." in text.splitlines()[-1]


def test_embedded_base_and_ties(folder, capsys):
    assert run("compress", *GIVEN, "--method", "ties", "--embed-base", "--strict", "--output", "b.safetensors") == 0
    assert run("restore", "b.safetensors", "--task", "t0", "--output", "m.safetensors") == 0
    assert run("inspect", "b.safetensors", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["method"], facts["strict"], facts["base_embedded"]) == ("ties", True, True)
    base = 8 * facts["base_bytes"]
    formula = gigabits("tall-ties", domain_weights=159, frozen_weights=25, tasks=3) * 1e9
    assert facts["bits"]["base"] == base
    assert (
        base + facts["bits"]["merged vector"] + facts["bits"]["masks"] - formula == 32 + 3
    )  # an int64; 20 bytes for 159


def test_fewer_bits(folder, capsys):
    options = ["--embed-base", "--base-dtype", "bf16", "--vector-dtype", "int8", "--mask-codec", "zstd"]
    assert run("compress", *GIVEN, *options, "--output", "b") == 0
    capsys.readouterr()
    assert run("inspect", "b", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bits"]["merged vector"] == 8 * 159 + 32 * 3
    assert facts["bits"]["base"] == 16 * 183 + 64
    assert (facts["vector_dtype"], facts["base_dtypes"], facts["mask_codec"]) == ("I8", ["BF16", "I64"], "zstd")
    assert facts["bits_per_weight_and_task"] == facts["bits"]["total"] / 159 / 3


def test_shards_are_a_checkpoint(folder):
    base = open_checkpoint("base.safetensors")
    (folder / "shards").mkdir()
    for i, part in enumerate((base.names[:2], base.names[2:])):
        save(folder / "shards" / f"model-{i}.safetensors", {name: base[name] for name in part}, "model")
    assert run("compress", "--base", "shards", "--finetuned", *TUNED, "--output", "b") == 0
    assert run("restore", "b", "--task", "t0", "--base", "shards", "--output", "one") == 0
    assert run("restore", "b", "--task", "t0", "--base", "base.safetensors", "--output", "other") == 0
    one, other = open_checkpoint("one"), open_checkpoint("other")
    assert all(np.array_equal(one[name], other[name]) for name in base.names)


@pytest.mark.parametrize("domain", [["all"], ["v.*"], ["v.w", "v.b*"]])
def test_domains(folder, domain):
    assert run("compress", *GIVEN, "--domain", *domain, "--output", "b") == 0
    expected = {
        "all": ["text.w", "v.bias", "v.scale", "v.w"],
        "v.*": ["v.bias", "v.scale", "v.w"],
        "v.w": ["v.bias", "v.w"],
    }
    assert list(open_bundle("b").shapes) == expected[domain[0]]


def test_merge_uses_its_defaults_and_says_so(folder, capsys):
    assert run("merge", *GIVEN, "--method", "consensus-task-arithmetic", "--output", "m") == 0
    assert "alpha 0.4, a default" in capsys.readouterr().err
    assert run("merge", *GIVEN, "--method", "consensus-task-arithmetic", "--k", 2, "--alpha", 0.4, "--output", "n") == 0
    assert "default" not in capsys.readouterr().err
    assert open_checkpoint("m").metadata == open_checkpoint("n").metadata
    assert (folder / "m").read_bytes() == (folder / "n").read_bytes()
    assert open_checkpoint("m").metadata["k"] == "2"
    assert run("merge", *GIVEN, "--method", "consensus-ties", "--k", 4, "--output", "nothing") == 0
    assert "k 4: 3 tasks cannot give so many votes, so the model is the base" in capsys.readouterr().err
    base, nothing = open_checkpoint("base.safetensors"), open_checkpoint("nothing")
    assert all(np.array_equal(nothing[name], base[name]) for name in base.names)
    assert run("merge", *GIVEN, "--method", "weight-average", "--output", "average") == 0
    mean = sum(open_checkpoint(f"t{i}.safetensors")["v.w"] for i in range(3)) / 3
    np.testing.assert_allclose(open_checkpoint("average")["v.w"], mean, atol=1e-6)
    assert run("merge", *GIVEN, "--method", "tall-ties", "--task", "t1", "--output", "t") == 0


def test_what_is_not_a_float_stays_the_bases(folder, capsys):
    tuned = dict(open_checkpoint("t1.safetensors").tensors) | {"steps": np.int64([9])}
    save("other.safetensors", tuned, "model")
    assert main(["compress", "--base", "base.safetensors", "--finetuned", "t=other.safetensors", "--output", "b"]) == 0
    error = capsys.readouterr().err
    assert "note: 'steps' of t differs but is I64; the base's is kept" in error
    assert "lambda 0.4, a default" in error


def test_convert(folder):
    torch.save({"w": torch.ones(3)}, "old.pt")
    assert run("convert", "old.pt", "new.safetensors", "--dtype", "bf16") == 0
    assert open_checkpoint("new.safetensors").dtypes == {"w": "BF16"}


def test_stage(folder):
    base = open_checkpoint("base.safetensors")
    save("merged", {name: base[name] for name in base.names if name.startswith("v.")}, "merged")
    rng = np.random.default_rng(0)
    masks = {task: np.packbits(rng.random(159) < 0.5) for task in "xy"}
    save("masks", masks, "masks", {"strict": True})
    (folder / "masks.json").write_text(json.dumps({"tasks": {"x": {"lambda": 0.3}, "y": {"lambda": 0.4}}}))
    given = ["--base", "base.safetensors", "--merged", "merged", "--masks", "masks", "--search", "masks.json"]
    for codec in ("packed", "zstd"):
        assert run("bundle", "--method", "ties", *given, "--mask-codec", codec, "--output", "b") == 0
        bundle = open_bundle("b")
        assert bundle.embedded
        assert bundle.metadata["strict"] is True
        assert bundle.metadata["lambdas"] == {"x": 0.3, "y": 0.4}
        np.testing.assert_array_equal(bundle.mask("y", 0, 159), np.unpackbits(masks["y"], count=159))


COMPRESS = ["compress", *GIVEN, "--output", "x"]
MERGE = ["merge", *GIVEN, "--output", "x", "--method"]
RESTORE = ["restore", "b", "--output", "x", "--task"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*COMPRESS, "--method", "tise"], "unknown method 'tise'; a bundle's is task-arithmetic or ties"),
        ([*COMPRESS, "--lambda", "-1"], "--lambda -1: above 0 is needed; at 0 every mask keeps every weight"),
        ([*COMPRESS, "--lambda", "0"], "--lambda 0: above 0 is needed"),
        ([*COMPRESS, "--lambda", "t0=0.3", "t1=0", "t2=1"], "--lambda t0=0.3 t1=0 t2=1: above 0 is needed"),
        ([*COMPRESS, "--keep", "0.1"], "task-arithmetic makes no use of --keep; leave it out"),
        ([*COMPRESS, "--method", "ties", "--keep", "0"], "--keep 0: it is a share of the weights, above 0"),
        ([*COMPRESS, "--lambda", "t0=0.3"], "no lambda for the task 't1'"),
        ([*COMPRESS, "--lambda", "t0=0.3", "t0=0.4"], "--lambda gives 't0' twice"),
        ([*COMPRESS, "--lambda", "much"], "--lambda much: numbers are needed"),
        ([*COMPRESS, "--lambda", "0.3", "0.4"], "NAME=VALUE is needed"),
        ([*COMPRESS, "--domain", "nothing*"], "no float tensor of base.safetensors matches"),
        ([*COMPRESS, "--finetuned", "t0.safetensors"], "NAME=VALUE is needed"),
        ([*COMPRESS, "--finetuned", "t=none"], "cannot read none: No such file"),
        ([*COMPRESS, "--finetuned", "t=base.safetensors"], "all checkpoints equal the base"),
        ([*COMPRESS, "--finetuned", "t=missing"], "tensor 'v.w' of base.safetensors is missing from missing"),
        ([*COMPRESS, "--finetuned", "t=extra"], "tensor 'more' of extra is missing from base.safetensors"),
        ([*COMPRESS, "--finetuned", "t=shaped"], "'v.w' is [17, 9] in base.safetensors and [9, 17] in shaped"),
        ([*COMPRESS, "--finetuned", "t=typed"], "bring both to one: `tally convert OLD NEW --dtype fp32`"),
        ([*COMPRESS, "--finetuned", "t=nan"], "NaN or infinity in tensor 'v.w' of nan, at flat index 31"),
        ([*COMPRESS, "--finetuned", "t=cut"], "cut is truncated"),
        ([*COMPRESS, "--finetuned", "t=cut-shards"], "cut-shards/b.safetensors is truncated"),
        ([*COMPRESS, "--finetuned", "t=pickle.pt"], "pickle.pt is a pickle, which can run code when opened"),
        ([*COMPRESS, "--vector-dtype", "int4"], "unknown vector dtype 'int4'"),
        ([*COMPRESS, "--mask-codec", "gzip"], "unknown mask codec 'gzip'; known are packed, zstd"),
        ([*COMPRESS, "--base-dtype", "bf16"], "add --embed-base, or leave it out"),
        ([*COMPRESS, "--threads", "0"], "threads is 0"),
        ([*COMPRESS, "--output", "b"], "b exists; choose another output, or replace it with --force"),
        ([*COMPRESS, "--output", "base.safetensors", "--force"], "base.safetensors is an input as well"),
        ([*COMPRESS, "--output", "cut-shards"], "cut-shards is a folder; name a file in it"),
        ([*MERGE, "tise"], "unknown method 'tise'; known are weight-average"),
        ([*MERGE, "consensus-ties", "--k", "9"], "k is 9; with 3 tasks"),
        ([*MERGE, "ties", "--k", "2"], "ties takes no k"),
        ([*MERGE, "consensus-ties", "--lambda", "nan"], "--lambda nan: above 0 is needed"),
        ([*MERGE, "ties", "--keep", "1.5"], "--keep 1.5: it is a share"),
        ([*MERGE, "consensus-task-arithmetic", "--keep", "0.1"], "consensus-task-arithmetic makes no use of --keep"),
        ([*MERGE, "ties", "--lambda", "0.3"], "ties makes no use of --lambda; leave it out, or choose another method"),
        ([*MERGE, "magnitude-masking", "--task", "t0", "--strict"], "magnitude-masking makes no use of --strict"),
        ([*MERGE, "consensus-ties", "--seed", "0"], "consensus-ties makes no use of --seed"),
        ([*MERGE, "ties", "--task", "t0"], "ties makes one model for all tasks; leave out --task"),
        ([*MERGE, "ties", "--device", "gpu"], "unknown device 'gpu'; use cpu, cuda or cuda:N"),
        ([*MERGE, "ties", "--device", "cuda:99"], "device cuda:99 is not available here; use device cpu"),
        ([*MERGE, "tall-ties"], "choose one of t0, t1, t2 with --task"),
        ([*MERGE, "ties", "--alpha", "inf"], "alpha is inf"),
        ([*RESTORE, "t9", "--base", "base.safetensors"], "no task 't9' in b; it has t0, t1, t2"),
        ([*RESTORE, "t0"], "b does not hold its base; give it"),
        ([*RESTORE, "t0", "--base", "t0.safetensors"], "t0.safetensors is not the base that b was made from"),
        (["restore", "t0.safetensors", "--task", "t0", "--output", "x"], "t0.safetensors is no bundle"),
        (["inspect", "t0.safetensors"], "is no bundle"),
        (["inspect", "none"], "cannot read none"),
        (["convert", "pickle.pt", "x"], "holds a whole pickled module"),
        (["convert", "t0.safetensors", "b"], "b exists"),
        (["convert", "t0.safetensors", "x", "--dtype", "int4"], "unknown dtype 'int4'"),
        (["convert", "masks.pt", "x", "--dtype", "fp16"], "masks.pt holds masks, not weights; leave out --dtype"),
        (["convert", "masks.pt", "x", "--domain", "v.*"], "a domain is a part of the base's weights; give --base, or"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, args, message):
    assert run("compress", *GIVEN, "--output", "b") == 0
    tensors = dict(open_checkpoint("t0.safetensors").tensors)
    odd = {
        "missing": {name: w for name, w in tensors.items() if name != "v.w"},
        "extra": tensors | {"more": np.ones(2, "f4")},
        "shaped": tensors | {"v.w": np.ones((9, 17), "f4")},
        "typed": tensors | {"v.w": tensors["v.w"].astype("f2")},
        "nan": tensors
        | {"v.w": np.where(np.arange(153) == 31, np.nan, tensors["v.w"].ravel()).reshape(17, 9).astype("f4")},
        "cut-shards/a.safetensors": {name: w for name, w in tensors.items() if name != "v.w"},
        "cut-shards/b.safetensors": {"v.w": tensors["v.w"]},
    }
    for name, state in odd.items():
        save(name, state, "model")
    raw = (folder / "cut-shards" / "b.safetensors").read_bytes()
    (folder / "cut-shards" / "b.safetensors").write_bytes(raw[:-4])
    (folder / "cut").write_bytes((folder / "t0.safetensors").read_bytes()[:-40])
    torch.save(torch.nn.Linear(1, 1), "pickle.pt")
    torch.save({"a": np.uint8([9, 1])}, "masks.pt", pickle_protocol=2)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("tally: ")
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_force_replaces(folder):
    for method in ("task-arithmetic", "ties"):
        assert run("compress", *GIVEN, "--method", method, "--output", "b", "--force") == 0
    assert open_bundle("b").metadata["method"] == "ties"
    for _ in range(2):
        assert run("restore", "b", "--task", "t0", "--base", "base.safetensors", "--output", "m", "--force") == 0
        assert run("merge", *GIVEN, "--method", "ties", "--output", "n", "--force") == 0
        assert run("convert", "t0.safetensors", "o", "--force") == 0
    assert run("restore", "b", "--task", "t0", "--base", "base.safetensors", "--output", "m") == 2


def test_quiet(folder, monkeypatch):
    from tally import progress

    for args in (["--quiet", "convert", "t0.safetensors", "x"], ["convert", "t0.safetensors", "y", "--quiet"]):
        monkeypatch.setattr(progress, "quiet", False)
        assert main(args) == 0
        assert progress.quiet


def test_progress(folder, monkeypatch, capsys):
    from tally import progress

    monkeypatch.setattr(progress, "LOG_INTERVAL", 0)
    shown = Counter()

    def bar(items, label, **_):
        for item in items:
            shown[label] += 1
            yield item

    monkeypatch.setattr(progress, "bar", bar)
    assert main(["compress", *GIVEN, "--output", "b", "--threads", "2"]) == 0
    assert shown["hash the checkpoints"] == shown["read the checkpoints"] == 100  # per cent


def test_hashes_are_in_order(folder):
    for threads in ("1", "4"):
        assert run("compress", *GIVEN, "--output", "b", "--threads", threads, "--force") == 0
        found = open_bundle("b").metadata["made_from"]
        assert found["base"] == sha256("base.safetensors")
        assert found["finetuned"] == {f"t{t}": sha256(f"t{t}.safetensors") for t in range(3)}
