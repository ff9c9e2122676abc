"""Weights files: found without a request, read without running code, fitted strictly."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Never
from unittest.mock import MagicMock

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import RevisionNotFoundError
from safetensors.torch import save_file

import napari_wsiseg as ws
from napari_wsiseg.models import weights_ready
from napari_wsiseg.models.unet import UNet
from napari_wsiseg.models.weights import REVISION, fetch, read_state_dict, sha256

State = dict[str, torch.Tensor]
NAME = "fcn-tissue_mask"


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return UNet(2, (3,)).state_dict()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network behind it."""

    def offline(*_: object, **__: object) -> Never:
        raise ConnectionError("no network")

    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    return folder


def _put(cache: Path, content: bytes = b"", revision: str = REVISION) -> Path:
    folder = cache / "models--TIACentre--TIAToolbox_pretrained_weights" / "snapshots" / revision
    folder.mkdir(parents=True)
    path = folder / f"{NAME}.pth"
    path.write_bytes(content)
    return path


def test_cached_weights_are_found_without_a_request(cache: Path):
    assert not weights_ready(NAME)
    path = _put(cache)
    assert weights_ready(NAME)
    assert fetch(NAME) == path


def _newest_is(cache: Path, revision: str) -> None:
    """As a program leaves it that asked for "main"."""
    references = cache / "models--TIACentre--TIAToolbox_pretrained_weights" / "refs"
    references.mkdir()
    (references / "main").write_text(revision)


def test_what_another_program_downloaded_as_the_newest_serves(cache: Path, state: State):
    path = _put(cache, revision="0" * 40)
    assert not weights_ready(NAME)
    _newest_is(cache, "0" * 40)
    assert weights_ready(NAME)
    assert fetch(NAME) == path
    torch.save(state, path)
    segmenter = ws.load_model(NAME, device="cpu")
    assert segmenter.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_pinned_revision_goes_before_the_newest(cache: Path):
    _put(cache, revision="0" * 40)
    _newest_is(cache, "0" * 40)
    pinned = _put(cache)
    assert fetch(NAME) == pinned


def test_a_commit_that_the_hub_lacks_names_the_newest_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def lacking(*_: object, **__: object) -> Never:
        raise RevisionNotFoundError("404", response=MagicMock())

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lacking)
    with pytest.raises(ws.ModelError, match=rf"/resolve/main/{NAME}\.pth, and give .* weights="):
        fetch(NAME)


def test_offline_says_what_to_put_where(cache: Path):
    with pytest.raises(ws.ModelError) as caught:
        ws.load_model(NAME)
    message = str(caught.value)
    assert f"/resolve/{REVISION}/{NAME}.pth" in message
    assert "weights=PATH" in message
    assert "no network" in message
    assert "\n" not in message


def test_a_download_asks_for_the_pinned_revision(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    file = tmp_path / "file.pth"
    file.write_bytes(b"weights")

    def download(*args: str, revision: str, force_download: bool) -> str:
        asked.append((*args, revision, force_download))
        return str(file)

    monkeypatch.setattr(
        huggingface_hub, "get_hf_file_metadata", lambda *_, **__: MagicMock(etag=sha256(file))
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert fetch(NAME) == file
    assert asked == [("TIACentre/TIAToolbox_pretrained_weights", f"{NAME}.pth", REVISION, False)]
    assert constants.HF_HUB_DISABLE_TELEMETRY is True


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_given_takes_the_place_of_the_download(
    suffix: str, state: State, tmp_path: Path, cache: Path
):
    path = tmp_path / f"mine{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    segmenter = ws.load_model(NAME, weights=path, precision="exact", device="cpu", backend="torch")
    assert segmenter.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (segmenter.precision, segmenter.device, segmenter.backend) == ("exact", "cpu", "torch")
    assert segmenter.spec == ws.models()[NAME]
    loaded = segmenter.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("conv1x1.weight"), "it lacks 'conv1x1.weight'"),
        (lambda s: [s.pop(k) for k in list(s)[:5]], r"'backbone.conv1.weight', .* and 3 more"),
        (lambda s: s.update(extra=torch.ones(1)), "it has the unknown 'extra'"),
        (lambda s: s.update({"clf.bias": torch.ones(5)}), "it has another shape for 'clf.bias'"),
    ],
)
def test_weights_of_another_network_are_named(
    change: Callable[[State], object], problem: str, state: State, tmp_path: Path
):
    other = dict(state)
    change(other)
    path = tmp_path / "other.pth"
    torch.save(other, path)
    with pytest.raises(ws.ModelError, match=f"other.pth does not hold the weights of {NAME}"):
        ws.load_model(NAME, weights=path)
    with pytest.raises(ws.ModelError, match=problem):
        ws.load_model(NAME, weights=path)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.path, "boom")


def test_a_pickle_runs_no_code(tmp_path: Path):
    trace, path = tmp_path / "trace", tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps({"a": _Bomb(trace)}))
    with pytest.raises(ws.ModelError, match="cannot be read as weights"):
        read_state_dict(path)
    torch.save({"a": _Bomb(trace)}, path)
    with pytest.raises(ws.ModelError, match="cannot be read as weights"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000, b"\xff" * 64])
def test_a_damaged_file(suffix: str, content: bytes, tmp_path: Path):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(ws.ModelError, match="cannot be read as weights"):
        read_state_dict(path)


def test_a_truncated_file(state: State, tmp_path: Path):
    path = tmp_path / "whole.pth"
    torch.save({"clf.bias": state["clf.bias"]}, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ws.ModelError, match="cannot be read as weights"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 1}, {1: torch.ones(1)}, torch.ones(2)])
def test_a_file_of_something_else(content: object, tmp_path: Path):
    path = tmp_path / "something.pth"
    torch.save(content, path)
    with pytest.raises(ws.ModelError, match="holds no state dict"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["missing.pth", ""])
def test_a_missing_file_or_a_folder(name: str, tmp_path: Path):
    with pytest.raises(ws.ModelError, match="There is no weights file"):
        ws.load_model(NAME, weights=tmp_path / name)


def test_digest_in_pieces(tmp_path: Path):
    path = tmp_path / "large"
    content = bytes(range(256)) * 10_000
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()
