"""Weights files: found in the Hugging Face cache, downloaded once, read and checked.

Knows no network's layers: a state dict is names and shapes. Pickles are read with
`weights_only`, which runs no code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from napari_wsiseg.errors import ModelError, reason

if TYPE_CHECKING:
    from torch import Tensor, nn

REPOSITORY = "TIACentre/TIAToolbox_pretrained_weights"
# A commit, so that everyone gets the same bytes whatever is uploaded later.
REVISION = "ea909bdcce3aa409bf436c09b4495cca90a8e99b"
# What TIAToolbox and others ask for; the cache keeps which commit that was.
_NEWEST = "main"

_SHA256 = re.compile("[0-9a-f]{64}")
_CHUNK = 1 << 20
_PATIENCE = 10.0


def find_cached(name: str) -> Path | None:
    """The weights file of a model in the Hugging Face cache; makes no request.

    Of the pinned revision; where that is not there, what other programs downloaded as
    the newest: results carry the file's sha256, whichever it was.
    """
    from huggingface_hub import try_to_load_from_cache

    for revision in (REVISION, _NEWEST):
        path = try_to_load_from_cache(REPOSITORY, f"{name}.pth", revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def fetch(name: str) -> Path:
    """The weights file of a model, downloaded with a progress bar where it is not cached.

    One that was spoiled in the cache is downloaded again.

    Raises
    ------
    ModelError
        If it is not cached and cannot be downloaded.
    """
    cached = find_cached(name)
    if cached is not None and _is_as_kept(cached):
        return cached
    return _download(name, spoiled=cached)


def _download(name: str, spoiled: Path | None) -> Path:
    """The weights file of a model from the hub, in place of a spoiled one."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RevisionNotFoundError

    constants.HF_HUB_DISABLE_TELEMETRY = True
    file, again = f"{name}.pth", spoiled is not None
    url = hf_hub_url(REPOSITORY, file, revision=REVISION)
    by_hand = "give the file with weights=PATH (--weights PATH)."
    try:
        # Asked first, and once: the download itself tries for half a minute when offline.
        stated = _digest_in(get_hf_file_metadata(url, timeout=_PATIENCE).etag)
        path = Path(hf_hub_download(REPOSITORY, file, revision=REVISION, force_download=again))
        _check_digest(path, stated)
        return path
    except ModelError:
        raise
    except RevisionNotFoundError as error:
        newest = hf_hub_url(REPOSITORY, file, revision=_NEWEST)
        raise ModelError(
            f"{REPOSITORY} on the Hugging Face hub has no commit {REVISION}, which the weights of "
            f"{name} are taken from; fetch {newest}, and {by_hand}"
        ) from error
    except Exception as error:
        # What it raises depends on its version and on the HTTP library under it. Those have no
        # number; what has is the disk's.
        if isinstance(error, OSError) and error.errno is not None:
            raise ModelError(
                f"The weights of {name} cannot be kept in {constants.HF_HUB_CACHE} "
                f"({error.strerror}); make room there, or set HF_HOME to a folder that can be "
                "written."
            ) from error
        there = f"damaged on this machine ({spoiled})" if again else "not on this machine"
        raise ModelError(
            f"The weights of {name} are {there} and cannot be downloaded ({reason(error)}); "
            f"fetch {url} where there is a network, and {by_hand}"
        ) from error


def _is_as_kept(cached: Path) -> bool:
    """Whether a file is what it was when it came to the cache.

    That names content by its sha256, where the file system has links: a disk may have failed
    since, or a download have ended before it was compared.
    """
    if not cached.is_symlink():
        return True
    content = cached.readlink().name
    return not _SHA256.fullmatch(content) or sha256(cached) == content


def _digest_in(etag: str | None) -> str:
    """The sha256 that the hub states of a large file.

    Raises
    ------
    ValueError
        If it states none; then it is hardly the hub.
    """
    if etag is None or not _SHA256.fullmatch(etag):
        raise ValueError(
            "what answers states no sha256 to compare them with; it may be a network's log-in page"
        )
    return etag


def _check_digest(path: Path, stated: str) -> None:
    """Remove a download that is not what the hub has.

    Raises
    ------
    ModelError
        If it is another.
    """
    if sha256(path) == stated:
        return
    # The cache names the file by a link to its content.
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise ModelError(
        f"The download of {path.name} arrived damaged: its sha256 is not {stated}, as the hub "
        "states; it was removed, download it again."
    )


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` or `.safetensors` file, by name.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or holds anything but named tensors.
    """
    import torch

    if not path.is_file():
        raise ModelError(f"There is no weights file {path}; check the path.")
    state: object
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged file fails in as many ways as there are bytes. What torch says of a
        # pickle is advice to load it unsafely, which must not reach users.
        unsafe = isinstance(error, UnpicklingError)
        why = "it is no such file, or holds code" if unsafe else reason(error)
        raise ModelError(
            f"{path} cannot be read as weights; give a .pth that holds only tensors, "
            f"or .safetensors ({why})."
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise ModelError(f"{path} holds no state dict; give a file of named tensors.")
    return dict(state)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Give a network built on the meta device its weights; every name and shape must fit.

    Raises
    ------
    ModelError
        If one does not; names the first.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    wrong = (
        _some("lacks", wanted.keys() - state.keys(), wanted)
        or _some("has the unknown", state.keys() - wanted.keys(), state)
        or _some(
            "has another shape for",
            {key for key, shape in wanted.items() if tuple(state[key].shape) != shape},
            wanted,
        )
    )
    if wrong:
        raise ModelError(f"{path} does not hold the weights of {name}: it {wrong}.")
    network.load_state_dict(dict(state), strict=True, assign=True)


def _some(verb: str, keys: Iterable[str], order: Mapping[str, object]) -> str:
    """Such as "lacks 'a', 'b' and 3 more", in the order of `order`; empty where none do."""
    ordered = [key for key in order if key in set(keys)]
    if not ordered:
        return ""
    more = f" and {len(ordered) - 2} more" if len(ordered) > 2 else ""
    return f"{verb} {', '.join(map(repr, ordered[:2]))}{more}"
