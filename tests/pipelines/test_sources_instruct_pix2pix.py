"""InstructPix2Pix: pairs by seeds.json, with the edit in words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_media import write_picture
from PIL import Image
from reading_datasets import read_all, source_of

from pipelines.sources.instruct_pix2pix import InstructPix2Pix
from visent.errors import UserError


def test_real_pairs_carry_their_words(samples: Path) -> None:
    root = samples / "instruct_pix2pix" / "clip-filtered-dataset"
    found = read_all(InstructPix2Pix(root=str(root)))
    assert {item.key: item.split for item in found.items} == {
        "0000000/3141592653": "train", "0000001/3141864481": "train", "0000002/3142136309": "train",
        "0000003/3142408137": "test"}  # fmt: skip
    assert found.rejects == {}
    assert found.examples["0000003/3142408137"].meta == {
        "edit": "have her ride a dragon",
        "caption": "photograph of a girl riding a horse",
        "edited_caption": "photograph of a girl riding a dragon",
    }
    for key, pair in found.pixels.items():
        for role, number in (("image", 0), ("edited", 1)):
            np.testing.assert_array_equal(pair[role][0], np.array(Image.open(root / f"{key}_{number}.jpg")))


PROMPT = {"input": "a harbour", "edit": "make it night", "output": "a harbour at night"}


def write_dataset(root: Path, seeds: list[Any], prompt: Any = PROMPT) -> None:
    for folder, names in seeds:
        for name in names:
            write_picture(root / folder / f"{name}_0.jpg", 1)
            write_picture(root / folder / f"{name}_1.jpg", 2)
        (root / folder / "prompt.json").write_text(json.dumps(prompt))
    (root / "seeds.json").write_text(json.dumps(seeds))


def test_splits_are_the_publishers_shares_of_the_list(tmp_path: Path) -> None:
    seeds = [[f"{number:07d}", ["11", "22"]] for number in range(40)]
    write_dataset(tmp_path, seeds)
    items, _ = source_of(InstructPix2Pix(root=str(tmp_path))).listing()
    bounds = {"train": (0, 36), "val": (36, 38), "test": (38, 40)}  # floor of 0.9 and 0.95 of 40
    for split, (first, last) in bounds.items():
        keys = [f"{folder}/{seed}" for folder, names in seeds[first:last] for seed in names]
        assert [item.key for item in items if item.split == split] == keys


def test_scores_of_a_seed_are_kept(tmp_path: Path) -> None:
    write_dataset(tmp_path, [["0000000", [7, 8]]])
    lines = [{"seed": 8, "p2p_threshold": 0.25, "cfg_scale": 7.5, "clip_sim_dir": 0.123456, "other": 1}, "no scores"]
    (tmp_path / "0000000" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut":')
    found = read_all(InstructPix2Pix(root=str(tmp_path)))
    words = {"edit": "make it night", "caption": "a harbour", "edited_caption": "a harbour at night"}
    assert found.examples["0000000/7"].meta == words
    scores = {"p2p_threshold": 0.25, "cfg_scale": 7.5, "clip_sim_dir": 0.1235}
    assert found.examples["0000000/8"].meta == {**words, **scores}


def test_faults_are_rejected(tmp_path: Path) -> None:
    write_dataset(tmp_path, [[f"{number:07d}", ["5"]] for number in range(6)] + [["0000000", ["5"]]])
    (tmp_path / "0000001" / "5_0.jpg").unlink()
    (tmp_path / "0000002" / "5_1.jpg").unlink()
    (tmp_path / "0000003" / "prompt.json").write_text('{"caption": "no edit"}')
    (tmp_path / "0000004" / "prompt.json").unlink()
    cut = tmp_path / "0000005" / "5_1.jpg"
    cut.write_bytes(cut.read_bytes()[:-90])
    seeds = json.loads((tmp_path / "seeds.json").read_text())
    (tmp_path / "seeds.json").write_text(json.dumps([*seeds, ["0000099", ["5"]]]))
    found = read_all(InstructPix2Pix(root=str(tmp_path)))
    assert list(found.examples) == ["0000000/5"]
    assert found.rejects == {
        "0000000/5": "duplicate-key",
        "0000001/5": "missing-image",
        "0000002/5": "missing-edited",
        "0000003/5": "bad-prompt",
        "0000004/5": "missing-prompt",
        "0000005/5": "truncated",
        "0000099/5": "missing-image",
    }
    assert len(found.items) == 8


@pytest.mark.parametrize("text", ["{", "{}", "[1, 2]", '[["0000000", 5]]', "3"])
def test_a_list_of_another_form_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(UserError, match=r"seeds\.json is no"):
        source_of(InstructPix2Pix(root=str(tmp_path))).listing()


def test_without_the_list_the_layout_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing of dataset"):
        source_of(InstructPix2Pix(root=str(tmp_path))).listing()
