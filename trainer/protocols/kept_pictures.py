"""Results as files: as many as a person wants, each under its sample's key, and a sheet of some for the page."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image

from manifests import files
from tokenizer.tokenizer import Tokenizer
from trainer import hosts, movies, pictures
from trainer.protocols import decoded
from trainer.protocols.cases import Cases
from trainer.protocols.part import Part
from trainer.protocols.progress import shown
from trainer.protocols.samples import Samples
from visent.errors import UserError
from visent.untrusted.names import plain_name

TOGETHER = 256  # images decoded at a time
STILLS, CLIPS = 12, 4  # samples on a sheet
GIVEN = 5  # images of a prompt on a sheet, the last ones
FPS = 5.0  # at which clips are played


def number_wanted(text: str) -> int | None:
    """Returns how many results `--keep-images` asks for, None for all.

    Raises:
        UserError: it is neither a number nor "all".
    """
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"--keep-images is {text!r}: expected a number of images of each part, or all")
    return int(text)


def keep_pictures(
    part: Part,
    cases: Cases,
    samples: Samples,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    most: int | None = None,
    video: movies.Video = "mp4",
) -> str:
    """Writes the first `most` results (all, if None), each as a PNG or a clip named by its sample's key.

    They go to `<folder>/images/<part>`, which is returned. Every host of a run calls this and writes its own.

    Raises:
        UserError: the folder cannot be written, or samples cannot be read.
    """
    place = files.join(folder, "images", plain_name(part.name))
    files.make_folder(place)
    count = len(cases) if most is None else min(most, len(cases))
    size = max(TOGETHER // cases.frames, 1)
    cuts = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
    mine = cuts[jax.process_index() :: jax.process_count()]
    with shown(f"keep {part.name}", sum(map(len, mine)), "results") as advance:
        for cut in mine:
            for number, frames in zip(cut.tolist(), decoded.results(cases, samples, tokenizer, cut), strict=True):
                _write(frames, files.join(place, plain_name(cases.keys[number])), video)
            advance(len(cut))
    hosts.wait(f"pictures of {part.name}")
    return place


def _write(frames: decoded.Frames, stem: str, video: movies.Video) -> None:
    if len(frames) == 1:
        pictures.save(Image.fromarray(frames[0]), f"{stem}.png")
    else:
        movies.write_movie(frames, f"{stem}.{video}", FPS)


def contact_sheet(part: Part, cases: Cases, samples: Samples, tokenizer: Tokenizer, title: str) -> Image.Image:
    """Draws some samples from all over the set: given, generated, the truth, and the truth through the tokenizer.

    Of clips the frames that were given stand before those that were generated.
    """
    some = min(CLIPS if part.kind == "clips" else STILLS, len(cases))
    numbers = np.linspace(0, len(cases) - 1, some).round().astype(np.int64)
    kept = cases.kept // tokenizer.card.tokens_per_image  # whole images of results that were given
    before = decoded.given(cases, tokenizer, numbers, GIVEN)
    there = cases.prompt.shape[1] // tokenizer.card.tokens_per_image
    title += f"; of {there} images given the last {GIVEN}" if there > GIVEN else ""
    made, ceiling = decoded.results(cases, samples, tokenizer, numbers), decoded.ceiling(cases, tokenizer, numbers)
    small = pictures.thumbnails
    strips = [
        pictures.strip(small(given), small(result[kept:]), small(truth[kept:]), title=cases.keys[number],
                       ceiling=small(best[kept:]))
        for number, given, result, truth, best in zip(numbers.tolist(), before, made, cases.truth(numbers), ceiling,
                                                      strict=True)
    ]  # fmt: skip
    return pictures.sheet(strips, title)
