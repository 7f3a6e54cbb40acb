"""Examples that end the process which reads or decodes them: they become rejects before they can do it again."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NoReturn

from pipelines.sources.base import Encoded, Example, Item, Reject
from tokenizer.images import ImageError

DETAILS = {
    "crashed": "a library that reads it ends the process",
    "too-slow": "a library that reads it does not come to an end",
    "too-much-memory": "a library that reads it takes all memory",
}  # by reason; which signal it was may differ from one time to the next, and the same input gives the same reject


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What befell the `result`th result (from 0) of a unit's `item`th item.

    While the source gave it ("read"; the item ends there, as what follows cannot be reached), or when what it had
    given was decoded.
    """

    item: int
    result: int
    stage: Literal["read", "decode"]
    reason: str  # of DETAILS


def spared(results: Iterable[Example | Reject], item: Item, faults: Collection[Fault]) -> Iterator[Example | Reject]:
    """Passes an item's results on, those with a fault as what is a reject; `faults` are those of the item."""
    if not faults:
        yield from results
        return
    known = {fault.result: fault for fault in faults}
    iterator, at = iter(results), 0
    while True:
        fault = known.get(at)
        if fault is not None and fault.stage == "read":
            name = next(iter(item.files.values()), item.key)
            yield Reject(key=item.key, source=str(name), stage="read", reason=fault.reason,
                         detail=DETAILS[fault.reason])  # fmt: skip
            return
        result = next(iterator, None)
        if result is None:
            return
        yield result if fault is None or isinstance(result, Reject) else _undecodable(result, fault.reason)
        at += 1


def _undecodable(example: Example, reason: str) -> Example:
    """Returns an example that is rejected when it is decoded: it keeps its key, as every other of that kind."""
    still = Encoded(data=b"", decode=partial(_refuse, reason))
    return Example(key=example.key, source=example.source, media=dict.fromkeys(example.media, still), meta=example.meta)


def _refuse(reason: str, _: bytes) -> NoReturn:
    raise ImageError(reason, DETAILS[reason])
