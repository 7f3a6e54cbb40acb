"""Videos kept as folders of numbered frames: a picture file for each frame, and one for each annotation of it."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.sources import places
from pipelines.sources.base import Encoded, Example, Item, Reject
from pipelines.sources.files import below, readable
from pipelines.sources.frame_files import Files, Frames
from pipelines.sources.reading import read_file
from pipelines.sources.trust import outside
from pipelines.sources.video_frames import MAX_SHORT_SIDE
from tokenizer.images import decode_image

PROBED = 50  # folders counted for the estimate
NAMED = 5  # frames that a reject names

Pixels = UInt8[np.ndarray, "h w 3"]


def picked(numbers: Sequence[int], stride: int = 1, frames: int | None = None) -> Sequence[int]:
    """Returns every `stride`-th frame, or `frames` of them spread evenly, as `sampled` does by time."""
    if frames is None or frames >= len(numbers):
        return numbers[::stride]
    return [numbers[-(-i * len(numbers) // frames)] for i in range(frames)]


def frame_clips(
    root: str,
    item: Item,
    frames: Frames,
    roles: Mapping[str, Callable[..., Any]],
    frames_per_clip: int,
    times: Mapping[int, float] | None = None,
) -> Iterator[Example | Reject]:
    """Gives runs of frames as clips, key `<video>#<n>`; `roles` says what the bytes of each role become, input first.

    A clip that lacks a file of a role is a reject, so that no clip hides a jump; the next begins where it would have.
    Where a frame has several files of a role, its function gets the bytes of each.

    A row's meta is `item.data["meta"]`, the `frames` (their numbers) and their `times` in seconds, where known.
    """
    source = readable(next(iter(item.files.values())))
    if not frames:
        yield Reject(key=item.key, source=source, stage="list", reason="no-frames", detail="no numbered picture")
    numbers = list(frames)
    for start in range(0, len(numbers), frames_per_clip):
        chosen = numbers[start : start + frames_per_clip]
        about = {**item.data.get("meta", {}), "frames": chosen}
        if times is not None:
            about["times"] = [round(times[n], 3) for n in chosen]
        key = f"{item.key}#{start // frames_per_clip:05d}"
        yield _clip(root, Example(key=key, source=source, media={}, meta=about), [frames[n] for n in chosen], roles)


def _clip(
    root: str, clip: Example, frames: Sequence[Files], roles: Mapping[str, Callable[..., Any]]
) -> Example | Reject:
    media = {}
    for role, make in roles.items():
        missing = [n for n, files in zip(clip.meta["frames"], frames, strict=True) if role not in files]
        if missing:
            named = ", ".join(str(n) for n in missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
            return _reject(clip, "list", f"missing-{role}", f"no file for frame {named}")
        sizes: Counter[tuple[int, int]] = Counter()
        stills = []
        paths = [files[role] for files in frames]
        for data in places.at_once(partial(_read, root, clip), paths, root):
            if isinstance(data, Reject):
                return replace(data, reason=f"missing-{role}") if data.reason == "missing" else data
            sizes.update(_size(data[0]))
            stills.append(make(*data))
        if len(sizes) > 1:
            text = " and ".join(f"{count} of {w} x {h}" for (w, h), count in sizes.most_common())
            return _reject(clip, "align", "sizes-differ", f"frames of role {role}: {text}")
        media[role] = stills
    return Example(key=clip.key, source=clip.source, media=media, meta=clip.meta)


def _read(root: str, clip: Example, paths: str | tuple[str, ...]) -> list[bytes] | Reject:
    found = []
    for path in (paths,) if isinstance(paths, str) else paths:
        if outside([path]):
            return _reject(clip, "list", "outside-root", readable(path))
        data = read_file(clip.key, readable(path), below(root, path))
        if isinstance(data, Reject):
            return data
        found.append(data)
    return found


def _reject(clip: Example, stage: str, reason: str, detail: str) -> Reject:
    return Reject(key=clip.key, source=clip.source, stage=stage, reason=reason, detail=detail)


def _size(data: bytes) -> list[tuple[int, int]]:
    """Reads width and height off a picture's header; nothing where that fails, as decoding will say why."""
    try:
        return [Image.open(io.BytesIO(data)).size]
    except Exception:  # a parser's error on a broken header may be of any type
        return []


def frame(data: bytes) -> Encoded:
    """A frame as it is in its file, at most 512 pixels on the short side."""
    return drawn(data, decode=decode_image, exact=False)


def drawn(data: bytes, decode: Callable[[bytes], Pixels], exact: bool = True) -> Encoded:
    """An annotation of a frame that `decode` draws from the file's bytes; reduced as its frame is."""
    return Encoded(data=data, decode=partial(_reduced, decode=decode, exact=exact), exact=exact)


def _reduced(data: bytes, decode: Callable[[bytes], Pixels], exact: bool) -> Pixels:
    """Reduces to 512 on the short side, as sampling of videos does: the decoded frames of a clip wait in memory."""
    pixels = decode(data)
    height, width = pixels.shape[:2]
    scale = MAX_SHORT_SIDE / min(height, width)
    if scale >= 1:
        return pixels
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_AREA)


def video_item(root: str, name: str, folders: Mapping[str, str], **data: Any) -> Item:
    """Makes the item of a listed video from its folder for each role, the frames' first.

    One that lacks a folder is to be rejected as "missing-<role>".
    """
    missing = next((role for role, path in folders.items() if not places.is_folder(below(root, path))), None)
    return Item(key=readable(name), files=folders, data=data, reject=f"missing-{missing}" if missing else "")
