"""Few-shot segmentation: each sample has its own prompt, pairs of the query's class (HSNet's episodes)."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from manifests.order import mix
from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.part import Part, pairs_in_words
from trainer.protocols.subset import fixed_subset, hashes
from visent.errors import UserError


def cases(
    part: Part,
    data: EvalData,
    *,
    most: int | None = None,
    seed: int = 0,
    prompt: Sequence[object] | None = None,
    prompt_split: str | None = None,
) -> Cases:
    """Returns each row as a query, after `part.pairs` pairs of its class of other photos.

    As in HSNet and visual prompting (Bar et al., 2022) pairs come from the rows that are judged; `prompt_split` names
    another split. They are those with the smallest hashes of (seed, the query's key, their own), the smallest nearest
    to the query, so that more pairs only stand before fewer.

    Raises:
        UserError: the dataset lacks a role, rows have no class, a class has too few rows, or there is a `prompt`: each
            query has its own.
    """
    if prompt is not None:
        raise UserError(f"part {part.name!r} has pairs of each query's own class as prompt, none for all: leave the "
                        "pairs out")  # fmt: skip
    data.check_role(part.given, "still", part.name)
    data.check_role(part.made, "still", part.name, is_judged=True)
    source = data if prompt_split in (None, data.split) else data.with_split(str(prompt_split))
    numbers, notes = fixed_subset(data, np.arange(len(data)), most)
    classes = _classes(data)
    chosen = _supports(part, _Rows(data, classes), _Rows(source, classes if source is data else _classes(source)),
                       numbers, seed)  # fmt: skip
    tokens = data.tokens_per_image
    sentence = np.empty((len(numbers), 2 * part.pairs + 1, tokens), np.uint16)
    for place, role in enumerate((part.given, part.made)):
        sentence[:, place:-1:2] = source.codes(role, chosen.reshape(-1)).reshape(*chosen.shape, tokens)
    sentence[:, -1] = data.codes(part.given, numbers)[:, 0]
    return Cases(
        keys=[data.keys[number] for number in numbers.tolist()],
        prompt=sentence.reshape(len(numbers), -1),
        new_tokens=tokens,
        truth_codes=data.codes(part.made, numbers)[:, 0],
        truth=lambda some: data.pixels(part.made, numbers[some]),
        classes=[classes[number] for number in numbers.tolist()],
        notes=(
            f"{pairs_in_words(part.pairs)} of the query's class, of split {source.split}, chosen for each query by its "
            "key; each query comes once, where HSNet and visual prompting go through theirs in 1,000 episodes",
            *notes,
        ),
    )


class _Rows:
    """What supports are chosen by: rows of a class, their photos, and the hashes of their keys."""

    def __init__(self, data: EvalData, classes: Sequence[str]) -> None:
        self.data, self.classes = data, np.array(classes)
        self.photos = hashes([photo(key) for key in data.keys])
        self.hashes: UInt64[np.ndarray, " n"] = hashes(data.keys, "support")

    def of(self, name: str) -> Int64[np.ndarray, " k"]:
        """Returns the rows of a class, in the order of their keys."""
        return np.array(sorted(np.flatnonzero(self.classes == name).tolist(), key=self.data.keys.__getitem__), np.int64)


def _supports(
    part: Part, queries: _Rows, source: _Rows, numbers: Int64[np.ndarray, " n"], seed: int
) -> Int64[np.ndarray, "n pairs"]:
    """Returns the rows of each query's pairs, the nearest last."""
    seeds = hashes([queries.data.keys[number] for number in numbers.tolist()], "query", seed)
    result = np.empty((len(numbers), part.pairs), np.int64)
    of_class = {name: source.of(name) for name in np.unique(queries.classes[numbers]).tolist()}
    for at, number in enumerate(numbers.tolist()):
        name = str(queries.classes[number])
        rows = of_class[name]
        rows = rows[source.photos[rows] != queries.photos[number]]
        if len(rows) < part.pairs:
            raise UserError(
                f"class {name!r} of dataset {source.data.name!r} has {len(rows)} rows in split "
                f"{source.data.split!r} that show another photo than {queries.data.keys[number]!r}; part "
                f"{part.name!r} needs {pairs_in_words(part.pairs)}: take fewer, or tokenize more of the class"
            )
        draws = mix(np.full(len(rows), seeds[at], np.uint64), source.hashes[rows])
        nearest = np.argpartition(draws, range(part.pairs))[: part.pairs] if part.pairs else np.empty(0, np.int64)
        result[at] = rows[nearest][::-1]
    return result


def photo(key: str) -> str:
    """Names the photo that a row shows: Pascal-5i has a row for each class in it, `<photo>__<class>`.

    >>> photo("2007_000033__01")
    '2007_000033'
    """
    return re.sub(r"__\d+$", "", key)


def _classes(data: EvalData) -> list[str]:
    names = ("class", "class_index")
    return [_class(data, number, meta) for number, meta in enumerate(data.metas(names))]


def _class(data: EvalData, number: int, meta: dict[str, Any]) -> str:
    for value in (meta.get("class"), meta.get("class_index")):
        if isinstance(value, (str, int)):
            return str(value)
    raise UserError(f"row {data.keys[number]!r} of dataset {data.name!r} has no class in its meta, so there are no "
                    "pairs of its class: use a source that names them, such as `visent tokenize pascal5i`")  # fmt: skip
