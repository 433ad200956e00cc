"""Language models in transformers' folders: sharded, tied, bf16; merged, compressed and restored by the verbs."""

import json
import shutil

import numpy as np
import pytest
import torch
from tally.checkpoints import open_checkpoint, save
from tally.cli import main
from tally.files import atomic_folder
from tally.vectors import save_model

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """base, poems and recipes: a causal language model of 6,000 weights and two fine-tuned copies of it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    root = tmp_path_factory.mktemp("models")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    for name in ("base", "poems", "recipes"):
        if name != "base":
            with torch.no_grad():
                for weight in model.model.layers.parameters():
                    weight += 0.05 * torch.randn_like(weight)
        model.save_pretrained(root / name, max_shard_size="5KB")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(root / "base")
    (root / "base" / "README.md").write_text("about the base")
    (root / "base" / "pytorch_model.bin").write_bytes(b"the same once more")
    return root


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args) -> int:
    return main([*map(str, args)])


GIVEN = ["--base", "base", "--finetuned", "poems=poems", "recipes=recipes"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def loads(folder) -> dict[str, torch.Tensor]:
    """The weights as transformers reads them; the model and its tokenizer must work."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    ids = transformers.AutoTokenizer.from_pretrained(folder)("w5 w7", return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.isfinite().all()
    return model.state_dict()


def test_a_merged_model_loads_as_its_base_does(folder):
    assert len(list((folder / "base").glob("*.safetensors"))) > 2
    assert run("merge", *GIVEN, "--method", "task-arithmetic", "--alpha", 0.5, "--output", "merged") == 0
    merged, (base, poems, recipes) = loads(folder / "merged"), map(loads_plain, ("base", "poems", "recipes"))
    for name, theta in base.items():
        sum_of_both = (poems[name].float() - theta.float()) + (recipes[name].float() - theta.float())
        assert torch.equal(merged[name], (theta.float() + 0.5 * sum_of_both).bfloat16()), name
    left = {"README.md", "pytorch_model.bin"}
    assert names(folder / "merged") == sorted(set(names(folder / "base")) - left)
    index = "model.safetensors.index.json"
    assert (folder / "merged" / index).read_bytes() == (folder / "base" / index).read_bytes()
    for shard in (folder / "base").glob("*.safetensors"):
        assert open_checkpoint(folder / "merged" / shard.name).names == open_checkpoint(shard).names


def loads_plain(folder) -> dict[str, torch.Tensor]:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_restored_models_load_too_and_one_file_is_a_name_away(folder):
    assert run("compress", *GIVEN, "--lambda", 0.01, "--output", "both.safetensors") == 0
    for base in ("base", "base/model.safetensors.index.json"):
        assert run("restore", "both.safetensors", "--task", "poems", "--base", base, "--output", "out", "--force") == 0
        loads(folder / "out")
    assert (
        run("restore", "both.safetensors", "--task", "poems", "--base", "base", "--output", "one/model.safetensors")
        == 0
    )
    one, out = open_checkpoint("one/model.safetensors"), open_checkpoint("out")
    assert one.names == out.names
    assert all(np.array_equal(one[name], out[name]) for name in one.names)
    assert run("compress", *GIVEN, "--embed-base", "--output", "embedded.safetensors") == 0
    assert run("restore", "embedded.safetensors", "--task", "poems", "--output", "two.safetensors") == 0
    assert open_checkpoint("two.safetensors").names == one.names


def test_a_folder_without_an_index_and_the_library(folder):
    base = open_checkpoint("base")
    for i, part in enumerate((base.names[:3], base.names[3:])):
        tensors = {name: torch.from_numpy(base[name].view("i2").copy()).view(torch.bfloat16) for name in part}
        save(folder / "plain" / f"{i}.safetensors", tensors, "model")
    save_model(folder / "out", "plain", {base.names[0]: np.zeros(base.shape(base.names[0]), "f4")})
    assert names(folder / "out") == ["0.safetensors", "1.safetensors"]
    assert all(np.array_equal(open_checkpoint("out")[name], base[name]) for name in base.names)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("full", "full exists; choose another output, or replace it with --force"),
        (
            "full --force",
            "full holds notes.txt, which tally did not write there; move it away, or choose another output",
        ),
        ("used --force", "used holds merged.gguf, which tally did not write there"),
        ("merged", "merged exists; choose another output, or replace it with --force"),
        ("poems --force", "poems is an input as well"),
        ("file --force", "file is a file and the base a folder; name a folder, or one file that ends in .safetensors"),
    ],
)
def test_nothing_is_destroyed(folder, capsys, output, message):
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "empty").mkdir()
    merge = ["merge", *GIVEN, "--method", "task-arithmetic", "--output"]
    assert run(*merge, "merged") == run(*merge, "empty") == run(*merge, "merged", "--force") == 0
    shutil.copytree(folder / "merged", folder / "used")
    (folder / "used" / "merged.gguf").write_text("made of it")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(*merge, *output.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_is_whole_or_absent(tmp_path):
    with atomic_folder(tmp_path / "a") as part:
        (part / "1").write_text("one")
        assert not (tmp_path / "a").exists()
    for failure in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(failure), atomic_folder(tmp_path / "a") as part:
            (part / "2").write_text("half")
            raise failure
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "1"]
    stale = part.with_name(part.name[:-12] + "00000000.tmp")  # of a writer that was killed: no one holds its lock
    stale.mkdir()
    (stale / "3").write_text("half")
    with atomic_folder(tmp_path / "a") as part:
        assert not stale.exists()
        (part / "4").write_text(json.dumps("whole"))
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "4"]
