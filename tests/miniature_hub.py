"""A hub of one data set repository on this machine, for the real client: HF_ENDPOINT names it."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the files below `folder` as the repository `name`. The first `breaks` answers with a file end after 4000 bytes."""

    daemon_threads = True

    def __init__(self, folder: Path, name: str):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.name, self.breaks = folder, name, 0
        self.ranges: list[str | None] = []  # of the files that were asked for
        self.corrupt = False  # whether the hashes that it tells are others than its files'
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file()}


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path, files = self.path.partition("?")[0], self.server.files()
        facts = {name: self.facts(name, content) for name, content in files.items()}
        if re.fullmatch(rf"/api/datasets/{self.server.name}(/revision/\w+)?", path):
            siblings = [{"rfilename": name, **fact} for name, fact in facts.items()]
            self.send(
                json.dumps({"id": self.server.name, "sha": COMMIT, "private": False, "siblings": siblings}).encode()
            )
        elif path.startswith(f"/api/datasets/{self.server.name}/tree/"):
            tree = [{"type": "file", "path": name, "oid": fact["blobId"], **fact} for name, fact in facts.items()]
            self.send(json.dumps(tree).encode())
        elif (name := path.removeprefix(f"/datasets/{self.server.name}/resolve/{COMMIT}/")) in files:
            self.send_file(files[name], body)
        else:
            self.send(b'{"error": "Repository not found"}', 404, {"X-Error-Code": "RepoNotFound"})

    def facts(self, name: str, content: bytes) -> dict:
        digest = "0" * 64 if self.server.corrupt else hashlib.sha256(content).hexdigest()
        return {
            "blobId": hashlib.sha1(content).hexdigest(), "size": len(content),
            "lfs": {"sha256": digest, "oid": digest, "size": len(content), "pointerSize": 130},
        }  # fmt: skip

    def send_file(self, content: bytes, body: bool) -> None:
        start = 0
        if body:
            self.server.ranges.append(self.headers.get("Range"))
            if match := re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or ""):
                start = int(match[1])
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        broken = body and self.server.breaks > 0
        self.server.breaks -= broken
        self.send(content[start:], 206 if start else 200, headers, body, 4000 if broken else None)

    def send(
        self, content: bytes, status: int = 200, headers: dict | None = None, body: bool = True, cut: int | None = None
    ):
        self.send_response(status)
        for key, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})
        ).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True


@contextmanager
def serve(folder: Path, name: str) -> Iterator[Hub]:
    hub = Hub(folder, name)
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
