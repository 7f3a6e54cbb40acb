"""The card: its fingerprint, its JSON, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest

from tokenizer.card import TokenizerCard
from tokenizer.load import load_card
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError

CARD = TokenizerCard(
    name="a",
    weights_sha256="0" * 64,
    preset="crop",
    image_size=256,
    grid=16,
    codebook_size=1024,
    precision="float32",
    about={"licence": "none"},
)
DECIDING = {
    "weights_sha256": "1" * 64,
    "preset": "squash",
    "image_size": 512,
    "grid": 8,
    "codebook_size": 2048,
    "precision": "bfloat16",
}


def test_the_fingerprint_is_fixed_for_all_time() -> None:
    """Datasets on disk carry it: a change here makes them unreadable."""
    assert CARD.fingerprint == "027eb059c16f8150"


@pytest.mark.parametrize("field", DECIDING)
def test_each_field_that_decides_tokens_changes_the_fingerprint(field: str) -> None:
    assert dataclasses.replace(CARD, **{field: DECIDING[field]}).fingerprint != CARD.fingerprint


def test_what_decides_no_token_does_not_change_the_fingerprint() -> None:
    other = dataclasses.replace(CARD, name="b", about={}, decoder_sha256="1" * 64)
    assert other.fingerprint == CARD.fingerprint


def test_json_gives_the_same_card() -> None:
    again = TokenizerCard.from_json(json.loads(json.dumps(CARD.to_json())))
    assert again == CARD
    assert again.tokens_per_image == 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": None}, "missing fields \\['precision'\\]"),
        ({"grid": None}, "missing fields \\['grid'\\]"),
        ({"colour": "red"}, "unknown fields \\['colour'\\]"),
        ({"grid": "16"}, "grid is '16', expected int"),
        ({"grid": True}, "grid is True, expected int"),
        ({"about": "text"}, "about is 'text'"),
        ({"grid": 17}, "no multiple of grid 17"),
        ({"codebook_size": 65537}, "outside 2..65536"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(change: dict, message: str) -> None:
    values = {key: value for key, value in {**CARD.to_json(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        TokenizerCard.from_json(values)


def test_a_card_is_read_without_its_weights(tmp_path: Path) -> None:
    folder = tiny_tokenizer_dir(tmp_path)
    (folder / "model.safetensors").unlink()
    assert load_card(folder).tokens_per_image == 16


def test_a_missing_tokenizer_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"no tokenizer at 'nowhere': expected a name \(default\), a folder"):
        load_card("nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "\ud800"])
def test_a_damaged_card_file_is_one_clear_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=r"card\.json"):
        load_card(tmp_path)
