"""The real client of the hub against a miniature hub on this machine, which can break off, be absent, and know nothing."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from huggingface_hub import constants
from tally.errors import TallyError
from tally.hub import local, obtain

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Hub:
    """One repository, owner/name, on a loopback port."""

    def __init__(self, files):
        self.files, self.requests, self.breaks = files, [], 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request, body):
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.requests.append((request.command, request.path, start))
        if "/owner/name/" not in request.path:
            return self.refuse(request, "RepoNotFound")
        if f"/{COMMIT}/" not in request.path and "/main/" not in request.path:
            return self.refuse(request, "RevisionNotFound")
        content = self.files.get(request.path.rsplit("/", 1)[1])
        if content is None:
            return self.refuse(request, "EntryNotFound")
        request.send_response(206 if start else 200)
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if body:
            half = len(content) // 2
            request.wfile.write(content[start:] if not self.breaks else content[start:half])
            self.breaks = max(self.breaks - 1, 0)
            request.close_connection = True

    def downloads(self):
        """Where in the file each began."""
        return [start for method, path, start in self.requests if method == "GET" and "/resolve/" in path]

    def refuse(self, request, why):
        request.send_response(404)
        request.send_header("X-Error-Code", why)
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub({"weights.bin": CONTENT})
    # what HF_ENDPOINT sets when the client is imported
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what is written at a time, 10 MB else
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it tries again
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_a_file_of_the_hub_is_fetched_once_and_its_commit_is_known(hub):
    path, facts = obtain("owner/name", "weights.bin")
    assert path.read_bytes() == CONTENT
    sha = hashlib.sha256(CONTENT).hexdigest()
    assert facts == {"source": "owner/name", "file": "weights.bin", "revision": COMMIT, "sha256": sha}
    again, _ = obtain("owner/name", "weights.bin", COMMIT)
    assert again == path
    assert len(hub.downloads()) == 1


def test_a_download_that_breaks_off_goes_on_where_it_broke(hub):
    hub.breaks = 1
    path, _ = obtain("owner/name", "weights.bin")
    assert path.read_bytes() == CONTENT
    starts = hub.downloads()
    assert len(starts) == 2
    assert 0 < starts[1] <= len(CONTENT) // 2


def test_half_a_download_is_never_a_file(hub, tmp_path):
    hub.breaks = 100
    with pytest.raises(TallyError, match=r"cannot fetch 'weights.bin' of owner/name at 'main'.*copy it to FOLDER"):
        obtain("owner/name", "weights.bin")
    assert not [path for path in (tmp_path / "cache").rglob("weights.bin")]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("other/name", "weights.bin"), "no public repository other/name"),
        (("owner/name", "model.bin"), "owner/name has no file 'model.bin' at 'main'"),
        (("owner/name", "weights.bin", "v2"), "no revision 'v2'"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub, asked, said):
    with pytest.raises(TallyError, match=said) as raised:
        obtain(*asked)
    assert "\n" not in str(raised.value)


def test_without_the_hub_it_says_what_to_copy_where(hub, tmp_path):
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(
        TallyError, match=r"no connection to the hub.*resolve/main/weights.bin.*FOLDER/weights.bin"
    ) as raised:
        obtain("owner/name", "weights.bin")
    assert "\n" not in str(raised.value)
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER" / "weights.bin").write_bytes(CONTENT)
    path, facts = obtain(str(tmp_path / "FOLDER"), "weights.bin")
    assert path.read_bytes() == CONTENT
    assert "revision" not in facts
    with pytest.raises(TallyError, match="other.bin: no such file"):
        obtain(str(tmp_path / "FOLDER"), "other.bin")


def test_a_path_is_told_from_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert local("owner/name")
    assert local("./other/name")
    assert local("/big/disk/models")
    assert not local("other/name")
