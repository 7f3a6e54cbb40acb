"""What one row is: a tokenized example in one view, with a column of codes for each role."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt16

from manifests.canonical import canonical_json
from tokenizer.card import TokenizerCard
from visent.errors import UserError, unknown

SCHEMA_VERSION = 1
MAX_CODEBOOK_SIZE = 65536  # codes are uint16

RoleKind = Literal["still", "clip"]
Codes = UInt16[np.ndarray, "t"] | UInt16[np.ndarray, "frames t"]
RESERVED = ("key", "view", "meta")
OF_RECORDS = ("frames", "key_bytes", "meta_bytes")  # stand beside the codes of still roles in an ArrayRecord's head


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The roles of a dataset, in column order, and the tokenizer that made its codes."""

    roles: Mapping[str, RoleKind]
    card: TokenizerCard

    def __post_init__(self) -> None:
        if not self.roles:
            raise UserError("a dataset needs at least one role, got none: name one such as 'image'")
        for role, kind in self.roles.items():
            if role in RESERVED or not role.isidentifier():
                raise UserError(f"role {role!r} cannot be a column: use letters, digits and _, and not {RESERVED}")
            if not isinstance(kind, str) or kind not in get_args(RoleKind):
                raise unknown(f"kind of role {role!r}", str(kind), get_args(RoleKind))
            if kind == "still" and role in OF_RECORDS:
                raise UserError(f"role {role!r} cannot be a still: call it otherwise, such as 'image'")
        if self.card.codebook_size > MAX_CODEBOOK_SIZE:
            raise UserError(f"codebook of {self.card.codebook_size} codes: rows hold uint16, so at most 65536")
        object.__setattr__(self, "roles", MappingProxyType(dict(self.roles)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _schema, (dict(self.roles), self.card)

    @property
    def tokens_per_image(self) -> int:
        """Codes of one image, `grid * grid`."""
        return self.card.tokens_per_image

    @property
    def stills(self) -> tuple[str, ...]:
        """Roles with one image in each row."""
        return tuple(role for role, kind in self.roles.items() if kind == "still")

    @property
    def clips(self) -> tuple[str, ...]:
        """Roles with a list of frames in each row."""
        return tuple(role for role, kind in self.roles.items() if kind == "clip")

    def to_json(self) -> dict[str, Any]:
        """Returns the form that stands in shard metadata."""
        return {"version": SCHEMA_VERSION, "roles": dict(self.roles), "card": self.card.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Schema":
        """Reads `to_json`'s form.

        Raises:
            UserError: another schema version, or a field is none.
        """
        check_version(value.get("version"), "schema")
        for name in ("roles", "card"):
            if not isinstance(value.get(name), dict):
                raise UserError(f"schema: {name} is {str(value.get(name))[:80]}, expected a table")
        return cls(roles=value["roles"], card=TokenizerCard.from_json(value["card"]))


def _schema(roles: Mapping[str, RoleKind], card: TokenizerCard) -> Schema:
    return Schema(roles=roles, card=card)


def check_version(got: Any, where: str) -> None:
    """Refuses data of another schema version.

    Raises:
        UserError: the version is not `SCHEMA_VERSION`.
    """
    if got != SCHEMA_VERSION:
        raise UserError(
            f"{where} has schema version {got!r}, this visent reads version {SCHEMA_VERSION}: "
            "tokenize it again, or use the visent that wrote it"
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example in one view.

    `codes` has `(tokens_per_image,)` for a still role and `(frames, tokens_per_image)` for a clip role; frame i of
    every clip role is the same moment. `view` 0 is the original, k the augmented view k. `meta` is any JSON object.
    """

    key: str
    view: int
    codes: Mapping[str, Codes]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def meta_json(self) -> str:
        """The canonical JSON text of `meta`, as stored."""
        return canonical_json(dict(self.meta))


def frames_of(row: Row, schema: Schema) -> int | None:
    """Returns the number of frames of the row's clip roles, or None where the dataset has no clips."""
    return len(row.codes[schema.clips[0]]) if schema.clips else None


def check_row(row: Row, schema: Schema) -> None:
    """Refuses a row that the schema does not describe.

    Raises:
        ValueError: key, view, roles, shape, type or range of the codes are wrong.
    """
    where = f"row {row.key!r} view {row.view}"
    if not row.key or row.view < 0:
        raise ValueError(f"{where}: the key must not be empty nor the view negative")
    try:
        row.key.encode(), row.meta_json.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: key and meta must be valid Unicode ({error.reason})") from error
    if set(row.codes) != set(schema.roles):
        raise ValueError(f"{where}: roles {sorted(row.codes)}, the schema has {sorted(schema.roles)}")
    for role, kind in schema.roles.items():
        codes, tokens = row.codes[role], schema.tokens_per_image
        if codes.dtype != np.uint16 or codes.ndim != (1 if kind == "still" else 2) or codes.shape[-1] != tokens:
            raise ValueError(f"{where}, {role}: {codes.dtype}{codes.shape} is no {kind} of uint16 x {tokens}")
        if codes.size and int(codes.max()) >= schema.card.codebook_size:
            raise ValueError(f"{where}, {role}: code {codes.max()} outside the codebook of {schema.card.codebook_size}")
    if len({len(row.codes[role]) for role in schema.clips}) > 1:
        raise ValueError(f"{where}: its clips differ in length; frame i of each must be the same moment")
