"""A protocol is a list of parts; each part is one row of a paper's table on one dataset."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from trainer.generate import Sampling
from visent.errors import UserError, unknown

Kind = Literal["clips", "images", "labels", "foreground", "halves"]
FigureName = Literal["fid", "is", "fvd", "clip-is", "miou", "foreground-miou", "psnr", "ssim"]


def pairs_in_words(count: int) -> str:
    """Returns "1 pair" or "3 pairs"."""
    return f"{count} pair{'' if count == 1 else 's'}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is generated from what, on which data, and how it is judged.

    clips: the first frames of a clip are given, the rest is generated. images, labels: pairs of `given` and `made` as
    prompt, the same for all, then a `given` whose `made` is generated; labels are drawn in colours and read back.
    foreground: the same with pairs of the query's own class, and a mask of white on black. halves: the upper half of
    an image is given.
    """

    name: str  # "seg to image", unique in its protocol
    paper: str = ""  # its row in papers.toml; "" where no paper has one
    data: str  # of the dataset, as `--data NAME=FOLDER` gives it
    kind: Kind
    given: str = ""  # role; none for clips and halves
    made: str  # role
    figures: tuple[FigureName, ...]
    pairs: int = 1  # of the prompt
    frames_given: int = 5
    frames_made: int = 11
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("kind of part", self.kind, get_args(Kind))
        for figure in self.figures:
            if figure not in get_args(FigureName):
                raise unknown("figure", figure, get_args(FigureName))
        if (self.kind in ("images", "labels", "foreground")) != bool(self.given):
            raise UserError(f"part {self.name!r}: {self.kind} with given role {self.given!r}")
        if self.pairs < 0 or self.frames_given < 1 or self.frames_made < 1:
            raise UserError(f"part {self.name!r}: pairs and frames must be positive")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The parts of a paper's evaluation."""

    name: str  # "lvm-lite"
    about: str  # one line
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise UserError(f"protocol {self.name!r} has two parts of one name: {', '.join(names)}")
