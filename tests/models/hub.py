"""A server on this machine that stands for the hub, and can misbehave as servers do."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from napari_wsiseg.models.weights import REVISION

NAME = "fcn-tissue_mask"
# The hub's library keeps what came in pieces of 10 MB.
CONTENT = bytes(range(256)) * 100_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
# The library waits a second before it asks again; that is not what the tests are about.
FETCH = f"""
import time
time.sleep = lambda seconds: None
from napari_wsiseg.models.weights import fetch
print(fetch({NAME!r}))
"""
PORTAL = b"<html><body>Please log in to the guests' network.</body></html>"


class Hub(ThreadingHTTPServer):
    """Serves one file.

    Parameters
    ----------
    sent
        What it sends.
    etag
        What it says of the file.
    breaks
        So many connections end in the middle of the file.
    silent
        So many stay open there, and nothing comes, until `released` is set.
    then
        What it sends from the second answer on, where that is another file.
    ranges
        How it answers to the second half: "served", "ignored" (the whole file) or "refused".
    elsewhere
        The address where the file lies, where that is not here.
    status
        What it answers, where that is neither of these; with a page in place of a file.
    endless
        Whether the file goes on and on, without a stated size.
    certificate
        Path of key and certificate, for https.
    """

    daemon_threads = True

    def __init__(
        self, sent=CONTENT, *, etag=DIGEST, breaks=0, silent=0, then=None, ranges="served",
        elsewhere=None, status=None, endless=False, certificate=None,
    ):  # fmt: skip
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent, self.etag, self.breaks, self.silent = sent, etag, breaks, silent
        self.then, self.ranges, self.elsewhere = then, ranges, elsewhere
        self.status, self.endless = status, endless
        self.asked, self.released, self.is_silent = [], threading.Event(), threading.Semaphore(0)
        self.scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    @property
    def gets(self):
        """The headers of each request for the file itself."""
        return [headers for verb, _, headers in self.asked if verb == "GET"]

    def handle_error(self, *_):
        """A client that went away is part of the trial."""


class Handler(BaseHTTPRequestHandler):
    """The hub's headers: commit, the file's sha256, its size; and ranges."""

    protocol_version = "HTTP/1.1"

    def end_headers(self):
        self.send_header("Connection", "close")
        super().end_headers()

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub, self.close_connection = self.server, True
        hub.asked.append((self.command, self.path, dict(self.headers)))
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if hub.status is not None:
            self.page(hub.status)
        elif start and hub.ranges == "refused":
            self.page(416)
        elif hub.elsewhere is not None:
            self.page(302)
        else:
            self.file(int(start[1]) if start and hub.ranges == "served" else 0)

    def page(self, status):
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.elsewhere)
            self.send_header("X-Linked-ETag", f'"{DIGEST}"')
            self.send_header("X-Linked-Size", str(len(CONTENT)))
            self.send_header("X-Repo-Commit", REVISION)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="office"')
        self.send_header("Content-Length", str(len(PORTAL)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(PORTAL)

    def file(self, first):
        hub = self.server
        gets = len(hub.gets)
        content = hub.then if hub.then is not None and gets > 1 else hub.sent
        body = content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if hub.etag is not None:
            self.send_header("ETag", f'"{hub.etag}"')
        self.send_header("X-Repo-Commit", REVISION)
        if not hub.endless or self.command == "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.send(body)

    def send(self, body):
        hub = self.server
        half = memoryview(body)[: len(body) // 2]
        if hub.breaks:
            hub.breaks -= 1
            self.wfile.write(half)
        elif hub.silent:
            hub.silent -= 1
            self.wfile.write(half)
            hub.is_silent.release()
            hub.released.wait()
        else:
            self.wfile.write(body)
            while hub.endless:
                self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def serving(hub):
    """The hub, answering until the end of the block."""
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        hub.shutdown()
        thread.join()
        hub.server_close()


def start(cache, endpoint, first="", **environment):
    """A process that runs the line `first`, and fetches the weights into `cache`."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    kept = {k: v for k, v in kept.items() if not k.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, "-c", first + FETCH],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **environment},
    )  # fmt: skip


def finished(process):
    """The exit status of a process, and the last line that it wrote to stderr."""
    try:
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, told.rstrip().rpartition("\n")[2]


def fetched(cache, endpoint, first="", **environment):
    """Exit status and last line of a fetch."""
    return finished(start(cache, endpoint, first, **environment))


def files_in(folder):
    """Files of more than a few bytes, behind links or not."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    return sorted({path.resolve() for path in kept})
