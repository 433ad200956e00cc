import json

import pytest
import tiny_t5
from tally.cli import main
from tally.errors import TallyError
from tally.models.tokens import Tokenizer

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from tiny_bert import WORDS, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("tiny-bert"))


def test_a_longer_text_is_cut_and_counted(folder):
    found = Tokenizer(folder).tokens(["the cat", "the red dog runs fast"], 5, what="pets, train")
    assert found.ids.tolist() == [[2, 4, 6, 3, 0], [2, 4, 9, 7, 3]]
    assert (found.cut, found.ids.dtype) == (1, "int32")


def test_a_longer_text_is_refused(folder):
    tokenizer = Tokenizer(folder)
    with pytest.raises(
        TallyError, match=r"pets: 1 of 2 texts are longer than the context of 5 tokens, the first has 7"
    ):
        tokenizer.tokens(["the cat", "the red dog runs fast"], 5, what="pets", cut=False)
    assert tokenizer.tokens(["the red dog runs fast"], 7, what="pets", cut=False).cut == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WORDS, "whale"], r"tokenizer\.json: 17 tokens, but the model of config\.json has 16; take the tokenizer of"),
        (WORDS[:-1], r"tokenizer\.json: 15 tokens, but the model of config\.json has 16; take the tokenizer of"),
        (
            [WORDS[1], WORDS[0], *WORDS[2:]],
            r"tokenizer\.json: id 0 is '\[UNK\]', but the model takes 0 for padding; take",
        ),
    ],
)
def test_a_tokenizer_of_another_model_is_named(tmp_path, words, message):
    write_folder(tmp_path, words=words)
    with pytest.raises(TallyError, match=message):
        Tokenizer(tmp_path)


def test_a_t5_has_embeddings_to_spare(tmp_path):
    tiny_t5.make(tmp_path)
    assert Tokenizer(tmp_path).fast.get_vocab_size() < tiny_t5.CONFIG["vocab_size"]


@pytest.mark.parametrize("write", [write_folder, tiny_t5.make])
def test_an_embedding_of_another_size_is_named(tmp_path, capsys, write):
    config = json.loads((write(tmp_path) / "config.json").read_text())
    rows, model = config["vocab_size"], tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": rows + 1}))
    assert main(["--quiet", "base", "--model", str(model), "--output", str(tmp_path / "base.safetensors")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tally: {model}: ")
    assert said.endswith(f" has {rows} rows, but config.json says {rows + 1} tokens; copy the model's folder again")
    assert not (tmp_path / "base.safetensors").exists()


def test_a_context_that_the_model_has_not_is_named(folder):
    message = r"pets: a context of 17 tokens, but the model has positions for 16; lower text\.context"
    with pytest.raises(TallyError, match=message):
        Tokenizer(folder).tokens(["the cat"], 17, what="pets")


def test_a_broken_tokenizer_is_one_line(folder, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TallyError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        Tokenizer(tmp_path)
