"""Downloads over real sockets: a server on this machine stands for the hub, and misbehaves.

Whatever happens, what lies under the final name is the right file, or nothing does.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

from models.hub import CONTENT, DIGEST, NAME, Hub, fetched, files_in, finished, serving, start
from napari_wsiseg.models.weights import REPOSITORY, REVISION

WRONG = b"x" + CONTENT[1:]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal or limit")
with_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not there"
)


@pytest.fixture
def hub(request):
    with serving(Hub(**getattr(request, "param", {}))) as server:
        yield server


def with_hub(**options):
    return pytest.mark.parametrize("hub", [options], indirect=True, ids=["hub"])


def holds_the_file(cache):
    return [path.read_bytes() == CONTENT for path in files_in(cache)] == [True]


def test_the_pinned_file_is_fetched_whole_and_nothing_is_told(hub, tmp_path):
    status, last = fetched(tmp_path, hub.url)
    assert status == 0, last
    assert holds_the_file(tmp_path)
    assert {place for _, place, _ in hub.asked} == {f"/{REPOSITORY}/resolve/{REVISION}/{NAME}.pth"}
    agents = {headers.get("User-Agent", headers.get("user-agent")) for *_, headers in hub.asked}
    assert not any("torch" in agent or "session_id" in agent for agent in agents)


@with_hub(breaks=1)
def test_a_broken_connection_is_taken_up_where_it_broke(hub, tmp_path):
    status, last = fetched(tmp_path, hub.url)
    assert status == 0, last
    assert holds_the_file(tmp_path)
    first, second = hub.gets
    assert "Range" not in first
    assert second["Range"].startswith("bytes=")


@with_hub(silent=1)
def test_a_server_that_falls_silent_is_asked_again(hub, tmp_path):
    status, last = fetched(tmp_path, hub.url, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert status == 0, last
    assert holds_the_file(tmp_path)
    assert len(hub.gets) == 2


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        pytest.param({"sent": WRONG}, "arrived damaged", id="another file"),
        pytest.param({"breaks": 1, "then": WRONG[::-1]}, "arrived damaged", id="it changed"),
        pytest.param({"breaks": 1, "ranges": "refused"}, "416", id="no second half"),
        pytest.param({"breaks": 99}, "cannot be downloaded", id="it breaks on and on"),
        pytest.param({"etag": None}, "no sha256", id="no sha256"),
        pytest.param({"sent": WRONG, "etag": "a" * 40}, "no sha256", id="another kind of digest"),
        pytest.param({"status": 200}, "log-in page", id="a log-in page"),
        pytest.param({"status": 302, "elsewhere": "http://127.0.0.1:9/"}, "refused", id="moved"),
        pytest.param({"status": 407}, "407", id="a proxy that asks for a password"),
        pytest.param({"status": 503}, "503", id="out of order"),
    ],
    indirect=["hub"],
)
def test_a_server_that_misbehaves_leaves_nothing_behind(hub, said, tmp_path):
    status, last = fetched(tmp_path, hub.url)
    assert status == 1
    assert last.startswith("napari_wsiseg.errors.ModelError: ")
    assert said in last
    assert files_in(tmp_path) == []


@with_hub(breaks=1, ranges="ignored")
def test_a_server_that_knows_no_ranges_gives_a_right_file_or_none(hub, tmp_path):
    """Older versions of the hub's library take the whole file for its second half."""
    status, last = fetched(tmp_path, hub.url)
    assert holds_the_file(tmp_path) if status == 0 else "damaged" in last and not files_in(tmp_path)


@posix
@with_hub(endless=True)
def test_a_file_without_end_ends_with_the_disk_and_leaves_nothing(hub, tmp_path):
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (60_000_000, 60_000_000))"
    status, last = fetched(tmp_path, hub.url, limit)
    assert status == 1
    assert "cannot be kept in" in last
    assert "HF_HOME" in last
    assert files_in(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(hub, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, last = fetched(tmp_path / "file", hub.url)
    assert status == 1
    assert f"cannot be kept in {tmp_path / 'file'}" in last


def test_proxies_are_respected(hub, tmp_path):
    status, last = fetched(tmp_path, "http://hub.invalid", HTTP_PROXY=hub.url, http_proxy=hub.url)
    assert status == 0, last
    assert all(place.startswith("http://hub.invalid/") for _, place, _ in hub.asked)


@with_hub(status=407)
def test_a_proxys_password_is_not_told(hub, tmp_path):
    proxy = hub.url.replace("//", "//joe:open-sesame@")
    for endpoint in ("http://hub.invalid", "https://hub.invalid"):
        status, last = fetched(
            tmp_path, endpoint, http_proxy=proxy, https_proxy=proxy, HTTPS_PROXY=proxy
        )
        assert status == 1
        assert "cannot be downloaded" in last
        assert "open-sesame" not in last


def test_offline_is_said_plainly(tmp_path):
    server = Hub()
    server.server_close()
    status, last = fetched(tmp_path, server.url)
    assert status == 1
    assert "cannot be downloaded" in last
    assert f"{NAME}.pth where there is a network" in last
    assert files_in(tmp_path) == []


class TestHttps:
    @pytest.fixture
    def certificate(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("tls") / "both.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", path, "-out", path.with_name("public.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
        with path.open("ab") as file:
            file.write(path.with_name("public.pem").read_bytes())
        return path

    @with_openssl
    def test_a_certificate_that_nobody_vouches_for_is_refused(self, certificate, tmp_path):
        with serving(Hub(certificate=certificate)) as hub:
            status, last = fetched(tmp_path, hub.url)
        assert status == 1
        assert "CERTIFICATE_VERIFY_FAILED" in last
        assert hub.asked == []

    @with_openssl
    @pytest.mark.parametrize("sent", [CONTENT, WRONG], ids=["right", "changed on the way"])
    def test_where_it_sends_on_to_http_the_sha256_protects(self, sent, certificate, tmp_path):
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(certificate))
        with serving(Hub(sent)) as plain:
            elsewhere = f"{plain.url}/file"
            with serving(Hub(certificate=certificate, elsewhere=elsewhere)) as hub:
                status, last = fetched(tmp_path, hub.url, HF_TOKEN="hf_mine", **trust)
        assert len(plain.gets) == 1
        assert "hf_mine" not in repr(plain.asked)
        if sent == CONTENT:
            assert status == 0, last
            assert holds_the_file(tmp_path)
        else:
            assert "arrived damaged" in last
            assert files_in(tmp_path) == []


class TestInterrupted:
    @with_hub(silent=1)
    def test_after_a_kill_the_next_fetch_starts_clean(self, hub, tmp_path):
        process = start(tmp_path, hub.url)
        assert hub.is_silent.acquire(timeout=60)
        process.kill()
        finished(process)
        assert not list(tmp_path.rglob(f"{NAME}.pth"))
        hub.released.set()
        status, last = fetched(tmp_path, hub.url)
        assert status == 0, last
        (path,) = tmp_path.rglob(f"{NAME}.pth")
        assert path.read_bytes() == CONTENT

    @posix
    @with_hub(silent=1)
    def test_ctrl_c_ends_it_at_once_and_leaves_nothing(self, hub, tmp_path):
        process = start(tmp_path, hub.url)
        assert hub.is_silent.acquire(timeout=60)
        process.send_signal(signal.SIGINT)
        status, last = finished(process)
        assert status != 0
        assert last == "KeyboardInterrupt"
        assert not hub.released.is_set()
        assert files_in(tmp_path) == []

    @with_hub(silent=1)
    def test_two_at_once_both_end_with_the_file(self, hub, tmp_path):
        both = [start(tmp_path, hub.url) for _ in range(2)]
        assert hub.is_silent.acquire(timeout=60)
        hub.released.set()
        for process in both:
            status, last = finished(process)
            assert status == 0, last
        assert holds_the_file(tmp_path)


class TestSpoiled:
    """A file that the cache names by its sha256, and that is not that file any more."""

    @pytest.fixture
    def cache(self, hub, tmp_path):
        status, last = fetched(tmp_path, hub.url)
        assert status == 0, last
        (path,) = tmp_path.rglob(f"{NAME}.pth")
        if not path.is_symlink():
            pytest.skip("without links the cache does not keep what a file was")
        hub.asked.clear()
        return tmp_path

    @pytest.mark.parametrize(
        "content", [CONTENT[:-1], WRONG, None], ids=["cut short", "a byte", "gone"]
    )
    def test_it_is_downloaded_again(self, content, cache, hub):
        (kept,) = files_in(cache)
        kept.unlink() if content is None else kept.write_bytes(content)
        status, last = fetched(cache, hub.url)
        assert status == 0, last
        assert holds_the_file(cache)
        assert kept.name == DIGEST

    def test_a_sound_one_is_not(self, cache, hub):
        assert fetched(cache, hub.url)[0] == 0
        assert hub.asked == []

    def test_where_it_cannot_be_it_is_kept_and_named(self, cache):
        (kept,) = files_in(cache)
        kept.write_bytes(WRONG)
        status, last = fetched(cache, "http://127.0.0.1:9")
        assert status == 1
        assert "are damaged on this machine" in last
        assert f"{NAME}.pth) and cannot be downloaded" in last
        assert kept.read_bytes() == WRONG
