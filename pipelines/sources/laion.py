"""LAION (Schuhmann et al., LAION-400M, 2021; LAION-5B, 2022)."""

from dataclasses import dataclass

from pipelines.sources.img2dataset import Img2dataset


@dataclass(frozen=True, kw_only=True)
class LAION(Img2dataset):
    """LAION: photos from the web with their captions, chosen by scores.

    <root>/**/<5 digits>.tar, .parquet and _stats.json, as img2dataset writes them
    <root>/**/*.tar alone, with or without json files inside

    Columns are found in any case (similarity or SIMILARITY), in the parquet beside a tar or the json files inside. A
    row's key is its uid where it has one, else tar and sample: LAION repeats both URLs and pictures. Examples of
    conditions: --at-least similarity=0.3,aesthetic=5 --at-most punsafe=0.1,pwatermark=0.5
    """
