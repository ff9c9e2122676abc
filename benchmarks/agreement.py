"""What each way to compute a UNet costs, and how far its answers lie from `exact` in torch.

    PYTHONPATH=src:tests python benchmarks/agreement.py SLIDE

Patches of the real slide, spread over it, one after the other; every way is asked about a patch
before the next, so that all meet the same machine. Weights are made up (seeds): real ones are
surer of themselves, and agree more. The plain loop's network computes the whole patch in float32.
Where others work on the machine, `--threads 1` and the processor's time say more than the clock's:
two threads of torch wait for each other by spinning.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch  # noqa: TID253 - loaded by whoever times anything here
from numpy.typing import NDArray

from models.plain_unet import centre, plain_unet
from models.unet_cases import BCSS, KERNELS, state_of
from napari_wsiseg.geometry import Region, Resolution, Size
from napari_wsiseg.models import load_model, predict
from napari_wsiseg.models.hardware import has_bf16
from napari_wsiseg.models.runtimes import is_installed
from napari_wsiseg.slides import Slide, open_slide

Ask = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
PATCH, OUTPUT = Size(1024, 1024), Size(512, 512)


def ways(folder: Path) -> dict[tuple[str, str], Ask]:
    """By backend and precision; the first is what the others are held against."""
    weights = folder / "weights.pth"
    torch.save(state_of(BCSS), weights)
    precisions = ["exact", "fp32", *(["bf16"] if has_bf16(torch.device("cpu")) else [])]
    backends = ["torch", *(["openvino"] if is_installed("openvino") else [])]
    found: dict[tuple[str, str], Ask] = {}
    for backend, precision in product(backends, precisions):
        model = load_model(
            BCSS, weights=weights, device="cpu", precision=precision, backend=backend
        )
        found[backend, precision] = lambda pixels, model=model: predict(model, pixels)  # type: ignore[misc]
    found["torch", "plain loop"] = plain
    return found


def plain(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        whole = plain_unet(state_of(BCSS), torch.from_numpy(pixels), KERNELS[BCSS])
    answer: NDArray[np.float32] = centre(whole, OUTPUT.height, OUTPUT.width).numpy()
    return answer


def patches(slide: Slide, count: int) -> list[NDArray[np.uint8]]:
    size = slide.info.size
    along = int(np.ceil(np.sqrt(count)))
    tops, lefts = (
        np.linspace(0, side - 1024, along).astype(int) for side in (size.height, size.width)
    )
    places = [(int(top), int(left)) for top in tops for left in lefts][:count]
    full = Resolution(1.0, "baseline")
    return [slide.read(Region(top, left, PATCH), full)[None] for top, left in places]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("slide", type=Path)
    parser.add_argument("--patches", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder, open_slide(chosen.slide) as slide:
        table = ways(Path(folder))
        pictures = patches(slide, chosen.patches)
    for ask in table.values():
        ask(pictures[0])  # compiled, and buffers made
    clock: dict[tuple[str, str], list[float]] = {way: [] for way in table}
    busy: dict[tuple[str, str], list[float]] = {way: [] for way in table}
    largest, means, same = (dict.fromkeys(table, 0.0) for _ in range(3))
    for pixels in pictures:
        reference: NDArray[np.float32] | None = None
        for way, ask in table.items():
            start, started = time.perf_counter(), time.process_time()
            answer = ask(pixels)
            busy[way].append(time.process_time() - started)
            clock[way].append(time.perf_counter() - start)
            reference = answer if reference is None else reference
            difference = np.abs(answer - reference)
            largest[way] = max(largest[way], float(difference.max()))
            means[way] += float(difference.mean()) / len(pictures)
            same[way] += float((answer.argmax(1) == reference.argmax(1)).mean()) / len(pictures)
    print(f"{len(pictures)} patches, {chosen.threads} threads; ms of a patch, least and median.\n")
    print("| backend | precision | largest difference | mean | same class | clock | processor |")
    print("|---|---|---|---|---|---|---|")
    for way in table:
        backend, precision = way
        times = [f"{1e3 * min(t):.0f}, {1e3 * np.median(t):.0f}" for t in (clock[way], busy[way])]
        print(
            f"| {backend} | {precision} | {largest[way]:.1e} | {means[way]:.1e} "
            f"| {100 * same[way]:.3f} % | {times[0]} | {times[1]} |"
        )


if __name__ == "__main__":
    main()
