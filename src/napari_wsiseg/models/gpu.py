"""`GpuPlace`: GPUs that predict, and merge what they predicted; only finished rows come back.

The host runs ahead: it hands batches over and asks for what is ready. Uploads, the model
and merging have a stream each, so that they overlap; host arrays on their way are pinned.
Also takes the processor for a device, without streams: that is how it is tested.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsiseg.config import MapDtype
from napari_wsiseg.geometry import Size
from napari_wsiseg.messages import Band
from napari_wsiseg.models.base import Segmenter
from napari_wsiseg.models.inference import FailuresTold, OutOfMemory, answer
from napari_wsiseg.models.place import AHEAD, Replica
from napari_wsiseg.reduce import block_sum

_AS_QUICK = 1.02
# Seconds of a call that keeps a GPU busy for certain.
_LONG = 0.25


class _Movable(Protocol):
    def on(self, device: torch.device) -> Segmenter:
        """A copy on a device."""


def gpus_of(segmenter: Segmenter) -> tuple[str, ...]:
    """The GPUs that a segmenter can be asked on; none where it computes elsewhere.

    One that says "cuda", without a number, and can be copied stands for all GPUs of the
    same make as the current one.
    """
    try:
        device = torch.device(str(getattr(segmenter, "device", "cpu")))
    except RuntimeError:
        return ()
    if device.type != "cuda" or not torch.cuda.is_available():
        return ()
    if ":" in str(device):
        return (str(device),)
    current = torch.cuda.current_device()
    if not callable(getattr(segmenter, "on", None)):
        return (f"cuda:{current}",)
    name = torch.cuda.get_device_name(current)
    others = [i for i in range(torch.cuda.device_count()) if i != current]
    alike = [i for i in others if torch.cuda.get_device_name(i) == name]
    return tuple(f"cuda:{i}" for i in (current, *alike))


def free_memory(gpus: Sequence[str]) -> int:
    """Bytes that may still be taken on the fullest of these GPUs."""
    free = []
    for gpu in gpus:
        unused = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
        free.append(torch.cuda.mem_get_info(gpu)[0] + unused)
    return min(free)


def best_batch(segmenter: Segmenter, gpu: str, patch: Size, most: int) -> int:
    """Patches a call, found by trial: the least that is as quick as any, within 2 %.

    Batches are doubled until the memory ends, or a call takes a quarter of a second.

    Parameters
    ----------
    segmenter
        The model.
    gpu
        Where to try.
    patch
        Size of its input.
    most
        The largest number to try.
    """
    replica = GpuReplica(segmenter, torch.device(gpu), torch.device(gpu))
    each: dict[int, float] = {}
    size = 1
    while size <= most:
        try:
            seconds = replica.seconds(size, patch)
        except OutOfMemory:
            break
        each[size] = seconds / size
        if seconds > _LONG:
            break
        size *= 2
    quickest = min(each.values(), default=0.0)
    return next((size for size, now in each.items() if now <= _AS_QUICK * quickest), 1)


class GpuPlace:
    """Devices that predict and merge; the first of them holds the canvas.

    Parameters
    ----------
    segmenter
        The model; copied where there are several devices.
    devices
        Where to compute.
    scale
        Canvas pixels per stored pixel, along each axis.
    dtype
        How probabilities are stored.
    """

    def __init__(
        self, segmenter: Segmenter, devices: Sequence[str], scale: int, dtype: MapDtype
    ) -> None:
        places = [torch.device(device) for device in devices]
        self._home = places[0]
        self.replicas: Sequence[Replica] = tuple(
            GpuReplica(_copied(segmenter, place, len(places)), place, self._home)
            for place in places
        )
        self.ahead = AHEAD * len(places)
        self._scale = scale
        self._dtype: torch.dtype = getattr(torch, dtype)

    @property
    def canvas(self) -> Self:
        """Itself: sums are held on the first device."""
        return self

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Pinned memory, which a GPU can fetch while the processor does something else."""
        return _pinned(shape, torch.uint8, self._home).numpy()

    def take(self, shape: tuple[int, ...], dtype: type[np.float32]) -> Tensor:
        """Zeros on the device."""
        return self.place(np.zeros(shape, dtype))

    def place(self, array: NDArray[np.float32]) -> Tensor:
        """The same numbers on the device."""
        return torch.from_numpy(array).to(self._home)

    def settle(self, array: Tensor) -> Tensor:
        """The array itself: what is on the device stays there."""
        return array

    def release(self, array: Tensor) -> None:
        """Nothing to do: a tensor goes when nobody holds it."""

    def to_host(self, bands: Iterator[Band]) -> Iterator[Band]:
        """Bands as stored; each travels while the one before is written."""
        before: _Sent | None = None
        for band in bands:
            sent = self._sent(band)
            if before is not None:
                yield before.arrived()
            before = sent
        if before is not None:
            yield before.arrived()

    def _sent(self, band: Band) -> _Sent:
        stored, covered = self._stored(band.probabilities, band.coverage)
        values, coverage = self._download(stored), self._download(covered)
        on_host = Band(band.top, band.left, values, coverage, self._scale)
        return _Sent(on_host, _recorded(self._home))

    def _stored(self, values: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """What the map's writer makes of float32 probabilities, bit for bit."""
        if self._scale > 1:
            counts = block_sum(coverage[None].float(), self._scale)[0]
            values = block_sum(values, self._scale) / counts.clip(min=1)
            coverage = counts > 0
        if self._dtype == torch.uint8:
            values = (values * 255).round()
        return values.to(self._dtype), coverage

    def _download(self, tensor: Tensor) -> Any:
        host = _pinned(tensor.shape, tensor.dtype, self._home)
        return host.copy_(tensor, non_blocking=True).numpy()


@dataclass(frozen=True, slots=True)
class _Sent:
    """A band on its way to the host."""

    band: Band
    done: torch.cuda.Event | None

    def arrived(self) -> Band:
        if self.done is not None:
            self.done.synchronize()
        return self.band


class GpuReplica:
    """A copy of a model on a device, asked without waiting for its answer.

    Parameters
    ----------
    segmenter
        On `device`.
    device
        Where it computes.
    home
        Where its answers are merged.
    """

    def __init__(self, segmenter: Segmenter, device: torch.device, home: torch.device) -> None:
        self.spec = segmenter.spec
        self._segmenter = segmenter
        self._device = device
        self._home = home
        self._upload, self._compute = _stream(device), _stream(device)

    def ask(self, pixels: NDArray[np.uint8]) -> _GpuAnswer:
        """Hand patches over; see `Replica`."""
        with FailuresTold(self.spec.name, pixels.shape):
            with torch.cuda.stream(self._upload):
                patches = torch.from_numpy(pixels).to(self._device, non_blocking=True)
            with torch.cuda.stream(self._compute), torch.no_grad():
                if self._upload is not None and self._compute is not None:
                    self._compute.wait_stream(self._upload)
                    # Its memory is the upload stream's: not to be used again before.
                    patches.record_stream(self._compute)
                values = answer(self._segmenter, patches).to(self._device, torch.float32)
                ranges = torch.empty((0, 2), device=self._device)
                if values.ndim == 4:
                    ranges = torch.stack([values.amin((1, 2, 3)), values.amax((1, 2, 3))], 1)
                host = _pinned(ranges.shape, ranges.dtype, self._device)
                host.copy_(ranges, non_blocking=True)
                done = _recorded(self._device)
        return _GpuAnswer(self, values, host, done, pixels)

    def seconds(self, count: int, patch: Size) -> float:
        """Seconds of a call of so many patches of glass, when one follows another."""
        shape = (count, patch.height, patch.width, 3)
        pixels = _pinned(shape, torch.uint8, self._device).fill_(255).numpy()
        # The first call also builds what later ones reuse.
        self.ask(pixels).ranges()
        start = time.perf_counter()
        answers = [self.ask(pixels) for _ in range(AHEAD)]
        answers[-1].ranges()
        return (time.perf_counter() - start) / AHEAD


class _GpuAnswer:
    """An answer that stays on its device; holds the pixels while they are read."""

    def __init__(
        self,
        replica: GpuReplica,
        values: Tensor,
        ranges: Tensor,
        done: torch.cuda.Event | None,
        pixels: NDArray[np.uint8],
    ) -> None:
        self.shape = tuple(values.shape)
        self._replica = replica
        self._values = values
        self._ranges = ranges
        self._done = done
        self._pixels: NDArray[np.uint8] | None = pixels

    def ranges(self) -> list[tuple[float, float]]:
        replica = self._replica
        assert self._pixels is not None  # noqa: S101 - asked once
        with FailuresTold(replica.spec.name, self._pixels.shape):
            if self._done is not None:
                self._done.synchronize()
        self._pixels = None
        return [(float(low), float(high)) for low, high in self._ranges.tolist()]

    def values(self) -> Tensor:
        """On the home device, in step with its current stream."""
        device, home = self._replica._device, self._replica._home  # noqa: SLF001
        if self._done is not None:
            stream = torch.cuda.current_stream(device)
            stream.wait_event(self._done)
            self._values.record_stream(stream)
        return self._values.to(home, non_blocking=True)


def _copied(segmenter: Segmenter, device: torch.device, count: int) -> Segmenter:
    return segmenter if count == 1 else cast("_Movable", segmenter).on(device)


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call] # torch leaves it untyped


def _recorded(device: torch.device) -> torch.cuda.Event | None:
    """What the device's current stream has to do up to here; to wait for it burns no processor."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call] # torch leaves it untyped
    event.record(torch.cuda.current_stream(device))
    return event


def _pinned(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")
