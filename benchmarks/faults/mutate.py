"""Damaged copies of real files: bytes as disks and networks spoil them, and texts as a liar would write them.

Every mutation is a pure function of the file, a seed and the other files at hand.
"""

import json
import random
import re
import struct
from collections.abc import Callable, Sequence

from benchmarks.faults.inside import unpacked

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
# What somebody may write in the place of a value; CANARY is a real file outside of everything that may be read.
CANARY = "canary-outside.jpg"
LIES = (
    "null", "true", "-1", "0", "1e999", "1" * 400, "9" * 30, "NaN", "-0.5", '""', '"\\ud800"', '"\\u0000"', "[]", "{}",
    f'"../{CANARY}"', f'"../../{CANARY}"', '"/etc/passwd"', '"file:///etc/passwd"', '"x/../../../etc/passwd"',
    "[" * 70 + "]" * 70, "[" * 5000 + "]" * 5000, '{"a":' * 3000 + "0" + "}" * 3000, '"' + "x" * 70_000 + '"',
    "1000000000", "100000", "-2147483649", "[1,2,3]", '{"path":"/etc/passwd"}', '"\\u202e"', '"=1+1"',
)  # fmt: skip
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null')
_WORD = re.compile(rb"[^\s,;=:\[\]{}\"']+")

Random = random.Random


def mutated(data: bytes, seed: str, others: Sequence[bytes]) -> tuple[bytes, str]:
    """Returns a damaged copy of a file and how it was damaged; `others` are files to splice with."""
    chance = Random(seed)
    inside = unpacked(data) if chance.random() < 0.5 else None
    if inside is not None:
        how: list[str] = []
        return inside(lambda part: _damaged(part, chance, others, how)), f"inside: {' '.join(how)}"
    way: list[str] = []
    return _damaged(data, chance, others, way), way[0]


def _damaged(data: bytes, chance: Random, others: Sequence[bytes], how: list[str]) -> bytes:
    text = _is_text(data)
    ways = [*BYTES, *(TEXTS * 4 if text else ())]
    names = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        way = chance.choice(ways)
        data = way(data, chance, others)
        names.append(way.__name__.strip("_"))
    how.append("+".join(names))
    return data


def _is_text(data: bytes) -> bool:
    try:
        return b"\0" not in data[:4096] and bool(data[:4096].decode("utf-8", "strict") or True)
    except UnicodeDecodeError:
        return False


def _place(data: bytes, chance: Random) -> int:
    """Draws a place; half of all lie in the first or last hundred bytes, where formats keep what they say."""
    edge = min(len(data), 100)
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randrange(edge + 1)
    return len(data) - chance.randrange(edge + 1) if kind == 1 else chance.randrange(len(data) + 1)


def _flipped_bits(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _again in range(chance.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[_place(data, chance) % len(changed)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    return data[: _place(data, chance)]


def _doubled(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    return data + data if chance.random() < 0.3 else data[:at] + data[chance.randrange(at + 1) :]


def _spliced(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else data
    return data[: _place(data, chance)] + other[_place(other, chance) :]


def _replaced(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Gives another file under this one's name, or nothing."""
    return chance.choice([b"", *others])


def _removed(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    return data[:at] + data[at + chance.choice((1, 2, 4, 512, 4096)) :]


def _inserted(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, chance)
    return data[:at] + chance.randbytes(chance.choice((1, 2, 4, 100, 512))) + data[at:]


def _filled(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    at, run = _place(data, chance), chance.choice((4, 16, 512, 4096))
    return data[:at] + bytes([chance.choice((0, 0xFF))]) * len(data[at : at + run]) + data[at + run :]


def _lying_length(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    at, (code, width) = _place(data, chance), chance.choice((("B", 1), ("H", 2), ("I", 4), ("Q", 8)))
    value = chance.choice((*EXTREMES, len(data), len(data) + 1, 10**9, 100_000)) % (1 << (8 * width))
    return data[:at] + struct.pack(chance.choice("<>") + code, value) + data[at + width :]


def _lying_number(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    """Changes a small whole number wherever one stands as four bytes: sizes, counts and offsets are such."""
    found = [
        at
        for at in range(0, min(len(data) - 4, 4096))
        if data[at : at + 3] == b"\0\0\0" or data[at + 1 : at + 4] == b"\0\0\0"
    ]
    if not found:
        return _lying_length(data, chance, ())
    at = chance.choice(found)
    return data[:at] + struct.pack(chance.choice("<>") + "I", chance.choice(EXTREMES) % 2**32) + data[at + 4 :]


def _false_value(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    found = list(_VALUE.finditer(data)) or list(_WORD.finditer(data))
    if not found:
        return data
    one = chance.choice(found)
    return data[: one.start()] + chance.choice(LIES).encode() + data[one.end() :]


def _false_word(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    found = list(_WORD.finditer(data))
    if not found:
        return data
    one = chance.choice(found)
    return data[: one.start()] + chance.choice(LIES).strip('"').encode() + data[one.end() :]


def _missing_member(data: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    """Takes a member or an entry out of a JSON text, or a line out of another."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        lines = data.splitlines(keepends=True)
        if lines:
            del lines[chance.randrange(len(lines))]
        return b"".join(lines)
    places = _containers(value)
    holder = chance.choice(places) if places else value
    if isinstance(holder, dict) and holder:
        del holder[chance.choice(sorted(holder))]
    elif isinstance(holder, list) and holder:
        del holder[chance.randrange(len(holder))]
    return json.dumps(value).encode()


def _containers(value: object, most: int = 2000) -> list[dict[str, object] | list[object]]:
    found: list[dict[str, object] | list[object]] = []
    waiting = [value]
    while waiting and len(found) < most:
        one = waiting.pop()
        if isinstance(one, dict):
            found.append(one)
            waiting.extend(one.values())
        elif isinstance(one, list):
            found.append(one)
            waiting.extend(one)
    return found


BYTES: Sequence[Callable[[bytes, Random, Sequence[bytes]], bytes]] = (
    _flipped_bits, _flipped_bits, _cut, _cut, _doubled, _spliced, _replaced, _removed, _inserted, _filled,
    _lying_length, _lying_length, _lying_number, _lying_number,
)  # fmt: skip
TEXTS: Sequence[Callable[[bytes, Random, Sequence[bytes]], bytes]] = (
    _false_value, _false_value, _false_value, _false_word, _missing_member,
)  # fmt: skip
