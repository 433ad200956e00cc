import pytest
from tally.errors import TallyError
from tally.models.tokens import Tokenizer

pytest.importorskip("tokenizers")

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


def test_a_tokenizer_of_another_model_is_named(tmp_path):
    write_folder(tmp_path, words=[*WORDS, "whale"])
    with pytest.raises(TallyError, match=r"tokenizer\.json: 17 tokens, but the model of config\.json has 16"):
        Tokenizer(tmp_path)


def test_a_broken_tokenizer_is_one_line(folder, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TallyError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        Tokenizer(tmp_path)
