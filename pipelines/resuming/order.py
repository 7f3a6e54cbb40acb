"""Where each result of a unit stands: the source's order, which says where a retried example has its row."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from manifests import files
from pipelines.faults import Fault, spared
from pipelines.sources.base import Example, Reject, Source, Unit
from visent.errors import UserError
from visent.untrusted.documents import parse_json

DUPLICATE = "duplicate-key"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A reject and where it stands: rows and rejects of a unit, in the source's order, have places 0, 1, 2, ...

    `item` is the index of the unit's item that gave it; `span` holds the first place of that item and the one after
    its last.
    """

    reject: Reject
    place: int
    item: int
    span: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Returns what stands in a line of a rejects file."""
        return {**self.reject.to_json(), "place": self.place, "item": self.item, "span": list(self.span)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Placed":
        """Reads `to_json`'s form."""
        reject = Reject(**{field.name: value[field.name] for field in fields(Reject)})
        return cls(reject=reject, place=value["place"], item=value["item"], span=(value["span"][0], value["span"][1]))


class Order:
    """Counts the places of a unit while it is read, and collects its rejects.

    The reader's thread calls `read`, `keep_row` and `keep_reject`; whoever finds a fault later calls `rejected`. What
    is known to kill its reader (`faults`) is not read.
    """

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults = faults
        self._next = 0
        self._placed: dict[str, tuple[int, int]] = {}  # key of an example -> place, item
        self._spans: dict[int, tuple[int, int]] = {}
        self._rejects: list[tuple[Reject, int, int]] = []

    def read(self, source: Source, unit: Unit) -> Iterator[Example]:
        """Yields the unit's examples that may become rows."""
        faulty = {fault.item for fault in self._faults}
        sound = replace(unit, items=tuple(item for index, item in enumerate(unit.items) if index not in faulty))
        by_item = source.by_item(sound)  # of what kills its reader nothing may be read ahead
        for index in range(len(unit.items)):
            results = self.read_item(source, unit, index) if index in faulty else self._spanned(next(by_item), index)
            for result in results:
                example = self.place(result, index)
                if example is not None:
                    yield example

    def read_item(self, source: Source, unit: Unit, index: int) -> Iterator[Example | Reject]:
        """Yields what the source gives of one item; all of it has to be placed, by `place` or `keep_...`."""
        item = unit.items[index]
        faults = [fault for fault in self._faults if fault.item == index]
        return self._spanned(spared(source.examples(replace(unit, items=(item,))), item, faults), index)

    def _spanned(self, results: Iterable[Example | Reject], index: int) -> Iterator[Example | Reject]:
        """Notes which places the results of an item take."""
        first = self._next
        yield from results
        self._spans[index] = (first, self._next)

    def place(self, result: Example | Reject, item: int) -> Example | None:
        """Gives a result the next place; returns it if it may become a row: a key names one, the first that has it."""
        if isinstance(result, Example) and result.key not in self._placed:
            self._placed[result.key] = (self._take(), item)
            return result
        if isinstance(result, Example):
            result = Reject(key=result.key, source=result.source, stage="list", reason=DUPLICATE)
        self._rejects.append((result, self._take(), item))
        return None

    def keep_row(self, key: str) -> None:
        """Gives the next place to a row that is there."""
        self._placed[key] = (self._take(), -1)

    def keep_reject(self, known: Placed) -> None:
        """Gives the next place to a reject of an item that is not read again."""
        place = self._take()
        moved = place - known.place
        self._spans[known.item] = (known.span[0] + moved, known.span[1] + moved)
        self._rejects.append((known.reject, place, known.item))

    def rejected(self, reject: Reject) -> None:
        """Takes the reject of an example that was placed."""
        self._rejects.append((reject, *self._placed[reject.key]))

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    @property
    def counts(self) -> Counter[str]:
        """Rejects by reason."""
        return Counter(reject.reason for reject, _, _ in self._rejects)

    @property
    def rejects(self) -> list[Placed]:
        """The rejects in order of their keys."""
        found = sorted(self._rejects, key=lambda entry: (entry[0].key, entry[1]))
        return [Placed(reject=reject, place=place, item=item, span=self._spans[item]) for reject, place, item in found]


def write_rejects(path: str, rejects: Sequence[Placed]) -> None:
    """Writes one JSON object a line; no file when there are none."""
    if rejects:
        files.write_bytes(path, "".join(json.dumps(reject.to_json()) + "\n" for reject in rejects).encode())
    else:
        files.remove(path)


def read_rejects(path: str) -> list[Placed]:
    """Reads a rejects file in order of the places; none where there is no file.

    Raises: `UserError` where it is damaged.
    """
    try:
        return parse_rejects(path, files.read_bytes(path))
    except FileNotFoundError:
        return []


def parse_rejects(path: str, text: bytes) -> list[Placed]:
    """Reads the content of the rejects file at `path`, as `read_rejects` does.

    Raises: `UserError` where it is damaged.
    """
    try:
        lines = text.splitlines()
        return sorted((Placed.from_json(parse_json(line)) for line in lines), key=lambda placed: placed.place)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path} is no list of rejects ({type(error).__name__}: {error}): it was changed or damaged; remove the "
            "receipt beside it and run the same `visent tokenize` again, which makes both anew"
        ) from error
