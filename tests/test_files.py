import pytest
from tally.errors import TallyError
from tally.files import read_json, write_bytes


def test_broken_json_is_named(tmp_path):
    for content in (b"{", b"[]", b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(TallyError, match=r"x\.json: .*delete it"):
            read_json(tmp_path / "x.json")


def test_writing_is_whole_or_nothing(tmp_path):
    write_bytes(tmp_path / "new" / "a.txt", b"1")
    write_bytes(tmp_path / "new" / "a.txt", b"2")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"2"
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(TallyError, match=r"cannot write .*b\.txt"):
        write_bytes(tmp_path / "b.txt", b"3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.txt", "new"]
