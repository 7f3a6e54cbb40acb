"""The tokenizer card: what decides the tokens of an image, and the fingerprint that datasets are compared by."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visent.errors import UserError
from visent.untrusted.documents import parse_json

PRETRAINED = Path(__file__).parent / "pretrained"
CARD_FILE = "card.json"
NOT_DECIDING = ("name", "about", "decoder_sha256")


@dataclass(frozen=True, kw_only=True)
class TokenizerCard:
    """Names one tokenizer so exactly that two equal fingerprints mean the same tokens for the same picture."""

    name: str
    weights_sha256: str  # of the network and numbers that make codes, in any layout: Checkpoint.weights_sha256
    decoder_sha256: str = ""  # of those that make images of codes, "" where there are none; decides no token
    preset: str  # how a picture becomes a square, see tokenizer.images.PRESETS
    image_size: int  # pixels on each side
    grid: int  # codes on each side
    codebook_size: int
    precision: str = "float32"  # of the network's arithmetic, see tokenizer.precision; it changes a few tokens
    about: Mapping[str, str] = field(default_factory=dict)  # trained on, steps, licence; decides no token

    def __post_init__(self) -> None:
        if self.image_size <= 0 or self.grid <= 0 or self.image_size % self.grid:
            raise UserError(
                f"tokenizer card {self.name!r}: image_size {self.image_size} is no multiple of grid {self.grid}"
            )
        if not 2 <= self.codebook_size <= 65536:
            raise UserError(
                f"tokenizer card {self.name!r}: codebook_size {self.codebook_size} is outside 2..65536 (uint16 codes)"
            )

    @property
    def tokens_per_image(self) -> int:
        """Codes of one image, row by row."""
        return self.grid * self.grid

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the fields that decide tokens."""
        deciding = {name: value for name, value in self.to_json().items() if name not in NOT_DECIDING}
        text = json.dumps(deciding, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` reads them back."""
        return {**dataclasses.asdict(self), "about": dict(self.about)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TokenizerCard":
        """Reads what `to_json` wrote.

        Raises:
            UserError: a field is missing, unknown or of the wrong type.
        """
        types: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(cls)}
        missing = sorted(set(types) - set(values) - {"about", "decoder_sha256"})
        extra = sorted(set(values) - set(types))
        if missing or extra:
            raise UserError(
                f"tokenizer card: missing fields {missing}, unknown fields {extra}; expected {list(types)}: "
                "another version of visent wrote it, write it again with this one"
            )
        for name, value in values.items():
            expected = types[name] if types[name] in (str, int) else Mapping
            if not isinstance(value, expected) or isinstance(value, bool):
                raise UserError(f"tokenizer card: {name} is {value!r}, expected {expected.__name__}")
        return cls(**values)


def read_card(folder: Path) -> TokenizerCard:
    """Reads the card in a folder.

    Raises:
        UserError: the file is no card.
    """
    path = folder / CARD_FILE
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the tokenizer card {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a JSON object: the card of a tokenizer")
    return TokenizerCard.from_json(values)
