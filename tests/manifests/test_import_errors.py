"""Wrong token files and cards: one line that names the file, the line and what was expected."""

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from manifests.exchange.commands import import_
from manifests.exchange.incoming import find_card
from manifests.testing import TINY_CARD, write_random_dataset
from visent.errors import UserError


@pytest.fixture
def card(tmp_path: Path) -> str:
    """The folder of a tokenizer's card: 16 tokens an image, 64 codes."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "card.json").write_text(json.dumps(TINY_CARD.to_json()))
    return str(tmp_path / "t")


def take(*arguments: object) -> Result:
    return CliRunner().invoke(import_, [str(argument) for argument in arguments])


def lvm_line(tokens: list[int]) -> str:
    return json.dumps({"tokens": base64.b64encode(struct.pack(f"<{len(tokens)}i", *tokens)).decode()}) + "\n"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lvm_line([0] * 15), "15 tokens, expected a multiple of the 16"),
        (lvm_line([0] * 31 + [64]), "below the codebook's 64"),
        (lvm_line([-1] * 16), "tokens are -1 to -1"),
        (lvm_line([0] * 16), "it has 1 images, --images-per-sentence says 2"),
        ('{"tokens": [1, 2]}\n', "base64 of int32"),
        ('{"tokens": "AAA"}\n', "not base64"),
        ('{"tokens": "AAAA"}\n', "multiple of 4"),
        ('{"tokens"\n', "line 3"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, card: str, second: str, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(lvm_line([1] * 32) + "\n" + second)  # LVM's reader skips empty lines
    options = ["--from", "lvm", "--tokenizer-card", card, "--images-per-sentence", 2]
    result = take(tmp_path / "c.jsonl", "--out", tmp_path / "o", *options)
    assert isinstance(result.exception, UserError)
    assert "c.jsonl, line 3" in str(result.exception)
    assert message in str(result.exception)
    assert not list((tmp_path / "o").glob("*"))


def test_wrong_delvm_files_are_named(tmp_path: Path, card: str) -> None:
    path = tmp_path / "train.bin"
    lines = [json.dumps({"tokens": [1] * 16}).encode() + b"\n"] * 3
    path.write_bytes(b"".join(lines))
    options = ["--from", "delvm", "--tokenizer-card", card, "--out", tmp_path / "o"]

    def message() -> str:
        error = take(path, *options).exception
        assert isinstance(error, UserError)
        return str(error)

    assert "train.bin.meta is missing" in message()
    meta = np.array([(i * len(lines[0]), 16) for i in range(3)])
    for wrong, said in ((meta[:2], "says nowhere"), (meta + 1, "says byte 1"), (meta[0], "expected whole numbers")):
        with Path(f"{path}.meta").open("wb") as file:
            np.save(file, wrong)
        assert said in message()
    with Path(f"{path}.meta").open("wb") as file:
        np.save(file, np.concatenate([meta, meta[-1:] + 99]))
    assert "the copy is not whole" in message()
    with Path(f"{path}.meta").open("wb") as file:
        np.save(file, meta.astype(np.int32))  # as InternLM's tools/tokenizer.py writes it
    assert take(path, *options).exit_code == 0
    path.write_bytes(b'{"tokens": [1.5, true]}\n')
    with Path(f"{path}.meta").open("wb") as file:
        np.save(file, np.array([(0, 2)]))
    assert "whole numbers" in str(take(path, *options[:-1], tmp_path / "p").exception)


def test_cards_are_found_by_name_folder_file_and_dataset(tmp_path: Path, card: str) -> None:
    write_random_dataset(str(tmp_path / "pairs"), {"image": "still"}, examples={"train": 2})
    assert find_card(card) == find_card(f"{card}/card.json") == find_card(str(tmp_path / "pairs")) == TINY_CARD
    assert find_card("default").name == "default"
    with pytest.raises(UserError, match="no tokenizer card"):
        find_card(str(tmp_path / "nothing"))
