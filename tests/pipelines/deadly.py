"""A source whose examples end their process, or never end: by what their names say."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from made_media import picture_bytes

from pipelines.sources.base import Encoded, Example, Item, Reject, Unit
from tokenizer.images import decode_image


def harm(name: str) -> None:
    """Does to this process what broken files do to libraries."""
    if name.startswith("crash"):
        ctypes.string_at(0)
    if name.startswith("abort"):
        os.abort()
    if name.startswith("exit"):
        os._exit(0)
    if name.startswith("sleep"):
        time.sleep(3600)
    if name.startswith("eat"):
        held = []
        while True:
            held.append(np.ones(1 << 23))
            time.sleep(0.001)


def decode(data: bytes) -> np.ndarray:
    name, _, data = data.partition(b" ")
    harm(name.decode())
    return decode_image(data)


@dataclass(frozen=True, kw_only=True)
class Deadly:
    """Gives a picture for each name in an item's data; one after "!" does its harm while it is read.

    A name of "once" kills the first process that reads it, from outside, and leaves a file to remember it by.
    """

    items: tuple[tuple[str, ...], ...]
    memory: str = ""
    items_per_unit: int = 100
    name: str = "deadly"
    roots: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, Literal["still", "clip"]] = field(default_factory=lambda: {"image": "still"})
    options: Mapping[str, Any] = field(default_factory=dict)
    legends: Mapping[str, Any] = field(default_factory=dict)

    def listing(self) -> tuple[list[Item], str]:
        return [Item(key=f"{i}", files={"tar": f"{i}.tar"}, data={"names": list(names)})
                for i, names in enumerate(self.items)], ""  # fmt: skip

    def by_item(self, unit: Unit) -> Iterator[Iterator[Example | Reject]]:
        return map(self.of_item, unit.items)

    def examples(self, unit: Unit) -> Iterator[Example | Reject]:
        return chain.from_iterable(self.by_item(unit))

    def of_item(self, item: Item) -> Iterator[Example | Reject]:
        for number, name in enumerate(item.data["names"]):
            harm(name.removeprefix("!") if name.startswith("!") else "")
            if name == "once" and not Path(self.memory).exists():
                Path(self.memory).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "raise":
                raise OSError("the bucket is gone")
            data = name.encode() + b" " + picture_bytes(number)
            media = {"image": Encoded(data=data, decode=decode)}
            yield Example(key=f"{item.key}/{number}", source=item.key, media=media)

    def estimate(self, items: Sequence[Item]) -> int | None:
        return None
