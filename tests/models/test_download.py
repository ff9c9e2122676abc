"""Downloads over real sockets: a server on this machine stands for the hub."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from napari_wsiseg.models.weights import REPOSITORY, REVISION

NAME = "fcn-tissue_mask"
# The hub's library keeps what came in pieces of 10 MB.
CONTENT = bytes(range(256)) * 100_000
FETCH = f"from napari_wsiseg.models.weights import fetch; print(fetch({NAME!r}))"


class Hub(ThreadingHTTPServer):
    """Serves one file; `breaks` connections end in the middle of it, `sent` is what it sends."""

    daemon_threads = True

    def __init__(self, breaks=0, sent=CONTENT):
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks, self.sent = breaks, sent
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """The hub's headers: commit, the file's sha256, its size; and ranges."""

    def do_HEAD(self):
        self.answer(whole=False)

    def do_GET(self):
        self.answer(whole=True)

    def answer(self, whole):
        hub = self.server
        hub.asked.append((self.command, self.path, dict(self.headers)))
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(start[1]) if start else 0
        body = hub.sent[first:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {first}-{len(hub.sent) - 1}/{len(hub.sent)}")
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if whole:
            if hub.breaks:
                hub.breaks -= 1
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def hub(request):
    server = Hub(**getattr(request, "param", {}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(cache, endpoint, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, "-c", FETCH], capture_output=True, text=True, check=False, timeout=120,
        env={**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **environment},
    )  # fmt: skip


def files_in(folder):
    kept = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    return sorted({path.resolve() for path in kept})


def test_the_pinned_file_is_fetched_whole_and_nothing_is_told(hub, tmp_path):
    told = fetched(tmp_path, hub.url)
    assert told.returncode == 0, told.stderr
    (path,) = files_in(tmp_path)
    assert path.read_bytes() == CONTENT
    assert {place for _, place, _ in hub.asked} == {f"/{REPOSITORY}/resolve/{REVISION}/{NAME}.pth"}
    agents = {headers.get("User-Agent", headers.get("user-agent")) for *_, headers in hub.asked}
    assert not any("torch" in agent or "session_id" in agent for agent in agents)


@pytest.mark.parametrize("hub", [{"breaks": 1}], indirect=True)
def test_a_broken_connection_is_taken_up_where_it_broke(hub, tmp_path):
    told = fetched(tmp_path, hub.url)
    assert told.returncode == 0, told.stderr
    (path,) = files_in(tmp_path)
    assert path.read_bytes() == CONTENT
    gets = [headers for verb, _, headers in hub.asked if verb == "GET"]
    assert len(gets) == 2
    assert any("bytes=" in str(headers) for headers in gets[1:])


@pytest.mark.parametrize("hub", [{"sent": b"x" + CONTENT[1:]}], indirect=True)
def test_a_wrong_sha256_leaves_nothing_behind(hub, tmp_path):
    told = fetched(tmp_path, hub.url)
    assert told.returncode != 0
    assert "arrived damaged" in told.stderr.splitlines()[-1]
    assert files_in(tmp_path) == []


def test_proxies_are_respected(hub, tmp_path):
    told = fetched(tmp_path, "http://hub.invalid", HTTP_PROXY=hub.url, http_proxy=hub.url)
    assert told.returncode == 0, told.stderr
    assert all(place.startswith("http://hub.invalid/") for _, place, _ in hub.asked)


def test_offline_is_said_plainly(tmp_path):
    server = Hub()
    server.server_close()
    told = fetched(tmp_path, server.url)
    assert "cannot be downloaded" in told.stderr.splitlines()[-1]
    assert f"{NAME}.pth where there is a network" in told.stderr.splitlines()[-1]
    assert files_in(tmp_path) == []
