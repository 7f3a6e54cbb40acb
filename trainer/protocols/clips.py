"""Parts that go on with a clip: its first frames are given, and the whole of it is judged."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.part import Part
from trainer.protocols.subset import fixed_subset
from visent.errors import UserError

# fmt: off
VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts", ".gif",
)
# fmt: on


def cases(
    part: Part,
    data: EvalData,
    *,
    most: int | None = None,
    seed: int = 0,
    prompt: Sequence[object] | None = None,
) -> Cases:
    """Returns one clip of each video: the first that has the frames that are given and made.

    Results are whole clips, given frames included; real ones are the same frames. Nothing is padded: what is shorter
    is left out and counted in the notes.

    Raises:
        UserError: the dataset lacks the role, no clip is long enough, or there is a `prompt`: clips have none.
    """
    if prompt is not None:
        raise UserError(f"part {part.name!r} goes on with clips: its prompts are their own frames, leave the pairs out")
    data.check_role(part.made, "clip", part.name, is_judged=True)
    frames = part.frames_given + part.frames_made
    eligible, notes = _one_of_each_video(part, data, frames)
    numbers, subset = fixed_subset(data, eligible, most)
    codes = data.codes(part.made, numbers, frames).reshape(len(numbers), -1)
    given = part.frames_given * data.tokens_per_image
    rate = data.facts.stored_fps
    return Cases(
        keys=[data.keys[number] for number in numbers.tolist()],
        prompt=codes[:, :given],
        kept=given,
        new_tokens=part.frames_made * data.tokens_per_image,
        frames=frames,
        truth_codes=codes,
        truth=lambda some: data.pixels(part.made, numbers[some], frames),
        notes=(
            f"first {frames} frames of one clip of each video{f', {rate:g} a second' if rate else ''}", *notes, *subset,
        ),
    )  # fmt: skip


def _one_of_each_video(part: Part, data: EvalData, frames: int) -> tuple[Int64[np.ndarray, " n"], list[str]]:
    lengths = data.lengths(part.made)
    long_enough = np.flatnonzero(lengths >= frames)
    if not len(long_enough):
        raise UserError(
            f"dataset {data.name!r} has no clip of {frames} frames in split {data.split!r}, which part {part.name!r} "
            f"needs ({part.frames_given} given, {part.frames_made} made); its longest has {lengths.max()}: tokenize it "
            "with a higher --fps and --frames-per-clip"
        )
    first: dict[str, int] = {}
    metas = data.metas(("source",))
    for number in long_enough.tolist():
        video = _video(data.keys[number], metas[number].get("source"))
        if video not in first or data.keys[number] < data.keys[first[video]]:
            first[video] = number
    chosen = np.array(sorted(first.values()), np.int64)
    short, later = len(lengths) - len(long_enough), len(long_enough) - len(chosen)
    notes = [f"clips left out, of fewer than {frames} frames: {short:,}"] if short else []
    return chosen, notes + ([f"clips left out, of videos that have an earlier one: {later:,}"] if later else [])


def _video(key: str, source: object) -> str:
    """Names the video of a clip: its file, or in archives and folders of frames the key up to the clip's number.

    Keys of clips are `<video>#<number>`; parts of one film that a list names have keys of their own, but one file.
    """
    if isinstance(source, str) and source.lower().endswith(VIDEO_ENDINGS):
        return source
    return key.rpartition("#")[0] or key
