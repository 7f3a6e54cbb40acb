"""Round trips of whole sets of files, a batch in memory at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tokenizer.images import decode_image, prepare
from tokenizer.labels import Confusion, LabelMap, decode_label_map, read_labels
from tokenizer.listing import ImageFile, Reject, by_reason, read_batches, readable
from tokenizer.quality import Quality, RoundTrips
from tokenizer.sheet import Sheet
from tokenizer.tokenizer import Tokenizer
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LabelQuality:
    """What a round trip leaves of label maps."""

    classes: int  # labels that occur; of colours the most in one picture
    miou: float  # of named labels over the whole set; of colours the mean over pictures
    accuracy: float  # part of the pixels that kept their label
    iou: Mapping[int, float]  # of each named label


def judge_pictures(tokenizer: Tokenizer, files: Sequence[ImageFile], sheet: Sheet, rejects: list[Reject]) -> Quality:
    """Measures round trips of pictures; unreadable ones are added to `rejects`.

    Raises:
        UserError: no picture is readable.
    """
    card = tokenizer.card
    trips = RoundTrips(card.codebook_size)

    def make(data: bytes) -> np.ndarray:
        return prepare(decode_image(data), card.preset, card.image_size)

    for batch in read_batches("round trips", files, make, rejects, tokenizer.batch_size):
        squares = np.stack([square for _, square in batch])
        codes = tokenizer.encode(squares)
        again = tokenizer.decode(codes)
        decibels = trips.add(squares, codes, again)
        for (file, square), after, value in zip(batch, again, decibels, strict=True):
            sheet.add(file, (square, after), f"{value:.1f} dB")
    check_some(trips.images, files, rejects)
    return trips.quality()


def check_some(count: int, files: Sequence[ImageFile], rejects: Sequence[Reject], what: str = "pictures") -> None:
    """Refuses a set of which nothing could be read as `what`.

    Raises:
        UserError: `count` is 0.
    """
    if not count:
        first = readable(rejects[0].path)
        reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason(rejects).items())
        raise UserError(
            f"none of {len(files)} files could be read ({reasons}), the first: {first}, {rejects[0].detail}; "
            f"name a folder of {what}"
        )


class _Labels:
    """The label maps of a set as squares, and the classes among them."""

    def __init__(self, tokenizer: Tokenizer, files: Sequence[ImageFile], ignore: int | None) -> None:
        self.card, self.ignore = tokenizer.card, ignore
        self.rejects: list[Reject] = []
        self.files: list[ImageFile] = []
        seen: Counter[int] = Counter()
        named: Counter[bool] = Counter()
        for batch in read_batches("finding classes", files, self.make, self.rejects, tokenizer.batch_size):
            for file, square in batch:
                self.files.append(file)
                seen.update(square.present)
                named[square.named] += 1
        check_some(len(self.files), files, self.rejects, "label maps")
        if len(named) > 1:
            raise UserError(
                f"{named[True]} maps have a palette or grey labels, {named[False]} are in colours: the classes of "
                "the one kind have numbers, those of the other have none; judge each kind by itself"
            )
        self.named = named[True] > 0
        if ignore is not None and not self.named:
            raise UserError(
                f"--ignore-label {ignore}: these maps are in colours, which have no number; leave the option out"
            )
        self.classes = sorted(set(seen) - {ignore})
        if not self.classes:
            raise UserError(f"every pixel of every map has the label {ignore}, which --ignore-label leaves out")

    def make(self, data: bytes) -> LabelMap:
        return decode_label_map(data).square(self.card.preset, self.card.image_size)

    def counted(self, truth: LabelMap) -> np.ndarray:
        return np.ones(truth.labels.shape, bool) if self.ignore is None else truth.labels != self.ignore


def judge_labels(
    tokenizer: Tokenizer, files: Sequence[ImageFile], sheet: Sheet, rejects: list[Reject], ignore: int | None
) -> tuple[Quality, LabelQuality]:
    """Measures round trips of label maps: drawn in colours, encoded, decoded, each pixel read as the nearest colour.

    The labels to choose from are those that occur in the set; pixels whose true label is `ignore` do not count.

    Raises:
        UserError: no map is readable, or palettes and colours are mixed.
    """
    maps = _Labels(tokenizer, files, ignore)
    rejects.extend(maps.rejects)
    trips, total, of_pictures = RoundTrips(tokenizer.card.codebook_size), Confusion(), []
    for batch in read_batches("round trips", maps.files, maps.make, rejects, tokenizer.batch_size):
        squares = np.stack([truth.picture for _, truth in batch])
        codes = tokenizer.encode(squares)
        again = tokenizer.decode(codes)
        trips.add(squares, codes, again)
        for (file, truth), before, after in zip(batch, squares, again, strict=True):
            one, counted = Confusion(), maps.counted(truth)
            choice = maps.classes if maps.named else truth.present
            found = read_labels(after, truth, choice) if counted.any() else truth.labels
            one.add(truth.labels, found, counted)
            total.counts += one.counts
            of_pictures.append(one.miou)
            sheet.add(file, (before, after, truth.palette[found]), f"{one.accuracy:.1%} right")
    check_some(trips.images, files, rejects)
    iou = {label: float(total.iou[label]) for label in maps.classes} if maps.named else {}
    return trips.quality(), LabelQuality(
        classes=len(maps.classes),
        miou=total.miou if maps.named else float(np.nanmean(of_pictures)),
        accuracy=total.accuracy,
        iou=iou,
    )
