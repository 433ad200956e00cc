import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file
from tally.checkpoints import open_checkpoint, save
from tally.errors import TallyError
from tally.vectors import apply, difference, domain_names, narrow, open_vectors, save_model

SHAPES = {"v.w": (7, 3), "v.b": (5,), "v.scale": (), "text": (4,)}


def checkpoint(seed, dtype=np.float32):
    random = np.random.default_rng(seed)
    tensors = {name: np.asarray(random.standard_normal(shape)).astype(dtype) for name, shape in SHAPES.items()}
    return tensors | {"steps": np.arange(3)}


def finetuned(tasks="ba", dtype=np.float32):
    return {task: checkpoint(ord(task), dtype) | {"text": checkpoint(0, dtype)["text"]} for task in tasks}


def flat(tensors, names):
    return np.concatenate([np.asarray(tensors[name], np.float32).reshape(-1) for name in sorted(names)])


def test_difference_is_the_dense_difference():
    base, models = checkpoint(0), finetuned()
    vectors = difference(base, models)
    assert vectors.tasks == ("a", "b")
    assert vectors.names == ("v.b", "v.scale", "v.w")
    assert vectors.size == 27
    dense = np.stack([flat(models[task], vectors.names) - flat(base, vectors.names) for task in "ab"])
    np.testing.assert_array_equal(vectors.dense(), dense)
    np.testing.assert_array_equal(vectors.task(1), dense[1])
    for lo in range(27):
        for hi in range(lo + 1, 28):
            out = np.empty((2, hi - lo), np.float32)
            vectors.fill(lo, hi, out)
            np.testing.assert_array_equal(out, dense[:, lo:hi])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_from_files(tmp_path, dtype):
    def convert(tensors):
        return {n: torch.tensor(t).to(getattr(torch, dtype)) if t.dtype != np.int64 else t for n, t in tensors.items()}

    base, models = convert(checkpoint(0)), {task: convert(model) for task, model in finetuned().items()}
    save(tmp_path / "base", base, "model")
    for task, model in models.items():
        save(tmp_path / task, model, "model")
    vectors = difference(tmp_path / "base", {task: tmp_path / task for task in models}, "all")
    assert vectors.names == ("text", "v.b", "v.scale", "v.w")
    for t, task in enumerate("ab"):
        expected = [(models[task][name].float() - base[name].float()).numpy().reshape(-1) for name in vectors.names]
        np.testing.assert_array_equal(vectors.task(t), np.concatenate(expected))


def test_domains():
    base, models = checkpoint(0), finetuned()
    assert domain_names(base, models, "all") == sorted(SHAPES)
    assert domain_names(base, models, "changed") == ["v.b", "v.scale", "v.w"]
    assert domain_names(base, models, ["v.?", "text"]) == ["text", "v.b", "v.w"]
    parts = {task: {name: model[name] for name in ("v.w", "v.b")} for task, model in models.items()}
    assert difference(base, parts, ["v.[wb]"]).names == ("v.b", "v.w")
    with pytest.raises(TallyError, match="'steps' of <base> is missing from <a>"):
        difference(base, parts, "all")
    with pytest.raises(TallyError, match="empty: no float tensor"):
        difference(base, models, ["nothing"])
    with pytest.raises(TallyError, match="empty: all checkpoints equal"):
        difference(base, {"a": base})
    with pytest.raises(TallyError, match="no tasks"):
        difference(base, {})
    with pytest.raises(TallyError, match=r"256 tasks; .* at most 255"):
        open_vectors({f"t{i}": {"w": np.float32([1])} for i in range(256)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["base", "a", "b"])
def test_not_finite_names_tensor_and_file(bad, where):
    base, models = checkpoint(0), finetuned()
    (base if where == "base" else models[where])["v.w"][2, 1] = bad
    with pytest.raises(TallyError, match=rf"NaN or infinity in tensor 'v\.w' of <{where}>, at flat index 7"):
        difference(base, models).dense()


def test_overflow_is_told():
    base = {name: np.float32([value]) for name, value in {"a": 0, "w": -3e38, "z": 0}.items()}
    with pytest.raises(TallyError, match="overflows float32 in tensor 'w'"):
        difference(base, {"a": {name: np.float32([3e38]) for name in base}}).dense()


def test_integers_are_no_task_vectors():
    with pytest.raises(TallyError, match="'w' in <a> is I64"):
        open_vectors({"a": {"w": np.arange(3)}})


def test_floats_that_cannot_be_merged_are_not_passed_over():
    base, model = {"w": np.float64([1, 2]), "v": np.float32([1])}, {"w": np.float64([1, 3]), "v": np.float32([2])}
    for domain in ("changed", "all", ["w"]):
        with pytest.raises(TallyError, match="'w' in <a> is F64, not one of F32"):
            difference(base, {"a": model}, domain)
    assert difference(base, {"a": model | {"w": base["w"]}}).names == ("v",)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_files_whose_tensors_are_not_aligned(tmp_path, dtype):
    tensors = {"w": torch.randn(40).to(getattr(torch, dtype))}
    save_file(tensors, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    length = int.from_bytes(content[:8], "little") + 1
    (tmp_path / "odd").write_bytes(
        length.to_bytes(8, "little") + content[8 : length + 7] + b" " + content[length + 7 :]
    )
    assert not open_checkpoint(tmp_path / "odd")["w"].flags.aligned
    base = {"w": torch.zeros(40).to(getattr(torch, dtype))}
    np.testing.assert_array_equal(difference(base, {"a": tmp_path / "odd"}).task(0), tensors["w"].float().numpy())


def test_split_and_join():
    vectors = open_vectors({"a": {name: t for name, t in checkpoint(1).items() if name != "steps"}})
    whole = vectors.task(0)
    parts = vectors.split(whole)
    assert {name: part.shape for name, part in parts.items()} == SHAPES
    assert np.shares_memory(parts["v.w"], whole)
    np.testing.assert_array_equal(vectors.join(parts), whole)
    votes = np.arange(whole.size, dtype=np.uint8)
    assert vectors.join(vectors.split(votes)).dtype == np.uint8
    with pytest.raises(TallyError, match="31 weights"):
        vectors.split(whole[1:])
    with pytest.raises(TallyError, match=r"'v\.b' is \[1\]"):
        vectors.join(parts | {"v.b": np.float32([1])})
    assert vectors.layout("F32")["v.w"] == ("F32", (7, 3))


def test_apply_and_save_model(tmp_path):
    base, models = checkpoint(0), finetuned("a")
    vectors = difference(base, models)
    tau = vectors.split(vectors.task(0))
    mask = np.arange(vectors.size) % 2 == 0
    result = apply(base, tau, 0.5, mask)
    for name, part in vectors.split(np.where(mask, vectors.task(0), 0)).items():
        np.testing.assert_array_equal(result[name], base[name] + np.float32(0.5) * part)
    save_model(tmp_path / "x", base, tau, 0.5, mask)
    whole = open_checkpoint(tmp_path / "x")
    assert whole.names == sorted(base)
    for name in base:
        np.testing.assert_array_equal(whole[name], result.get(name, base[name]))
    with pytest.raises(TallyError, match=r"mask has shape \(26,\), but <merged> has 27"):
        apply(base, tau, mask=mask[1:])
    with pytest.raises(TallyError, match=r"'text' is \[2\] in <merged> and \[4\] in <base>"):
        apply(base, {"text": np.float32([1, 2])})


def test_save_model_keeps_bfloat16(tmp_path):
    base = {"w": torch.randn(50).bfloat16()}
    tau = torch.randn(50)
    save_model(tmp_path / "x", base, {"w": tau})
    expected = (base["w"].float() + tau).bfloat16()
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "x").float32("w"), expected.float().numpy())


@settings(deadline=None)
@given(hnp.arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_narrow_rounds_as_torch(values):
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(narrow(values), expected)


def test_one_task_is_restored_when_it_can_be():
    base = {"w": np.float32([1, 2, 4])}
    model = {"w": np.float32([1.5, -2, 8])}
    np.testing.assert_array_equal(
        apply(base, difference(base, {"a": model}).split(np.float32([0.5, -4, 4])))["w"], model["w"]
    )
