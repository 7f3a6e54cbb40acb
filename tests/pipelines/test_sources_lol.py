"""LOL: pairs by name, in the publisher's folders."""

from pathlib import Path

import numpy as np
from made_media import write_pictures
from reading_datasets import read_all

from pipelines.sources.lol import LOL


def test_the_real_layout_gives_one_pair_for_each_name(samples: Path) -> None:
    found = read_all(LOL(root=str(samples / "lol")))
    assert list(found.examples) == [f"eval15/{n}" for n in ("1", "111", "22", "748", "780")]
    assert {unit.split for unit in found.units} == {"val"}
    assert found.rejects == {}
    for pair in found.pixels.values():
        assert pair["low_light"][0].shape == pair["image"][0].shape == (400, 600, 3)
        assert np.mean(pair["low_light"][0]) < np.mean(pair["image"][0])


def test_a_photo_without_its_other_half_is_rejected(tmp_path: Path) -> None:
    write_pictures(tmp_path / "our485" / "low", 3)
    write_pictures(tmp_path / "our485" / "high", 2)
    (tmp_path / "our485" / "low" / "001.png").rename(tmp_path / "our485" / "low" / "900.png")
    found = read_all(LOL(root=str(tmp_path)))
    assert list(found.examples) == ["our485/000"]
    assert found.rejects == {"our485/001": "missing-low_light", "our485/002": "missing-image",
                             "our485/900": "missing-image"}  # fmt: skip
