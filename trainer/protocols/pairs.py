"""Parts with one prompt for all samples: pairs of `given` and `made`, then the `given` whose `made` is asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt16

from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.own_pair import OwnPair
from trainer.protocols.part import Part, pairs_in_words
from trainer.protocols.subset import first_by_hash, fixed_subset
from visent.errors import UserError

SHOWN = 6  # pairs at most in the papers' sweeps: so many rows are kept for prompts where they come from the same split

Prompt = Sequence[str] | Sequence[OwnPair]


class _Shown(NamedTuple):
    """The pairs of a prompt; the last one stands nearest to the query."""

    codes: UInt16[np.ndarray, "pairs two t"]
    left_out: Sequence[int]  # rows of the data that are no samples
    notes: list[str]


def cases(
    part: Part,
    data: EvalData,
    *,
    most: int | None = None,
    seed: int = 0,
    prompt: Prompt | None = None,
    prompt_split: str | None = None,
) -> Cases:
    """Returns the samples of a part of kind images or labels.

    Pairs are rows of `prompt_split` (train where it has rows, else the split that is judged, which then loses them),
    taken by the hash of their keys with the roles and `seed`, so that all parts of these roles have the same. `prompt`
    names them instead, in the order of the prompt, or brings a person's own. A prompt of k pairs ends with that of
    k - 1 pairs, and where more than 6 rows are there the samples do not depend on k up to 6.

    Raises:
        UserError: the dataset lacks a role, its colours or rows, or `prompt` has too few pairs or an unknown key.
    """
    data.check_role(part.given, "still", part.name)
    data.check_role(part.made, "still", part.name, is_judged=True)
    legend = data.legend(part.made) if part.kind == "labels" else None
    if part.kind == "labels" and legend is None:
        raise UserError(
            f"dataset {data.name!r} has no colour map of role {part.made}, so part {part.name!r} cannot tell which "
            "label a colour is: tokenize it from a source of label maps, and make its pixels with `visent pixels`"
        )
    shown = _shown(part, data, seed, prompt, prompt_split)
    eligible = np.setdiff1d(np.arange(len(data)), np.array(shown.left_out, np.int64))
    if not len(eligible):
        raise UserError(
            f"dataset {data.name!r} has {len(data)} rows in split {data.split!r}, all of them in the prompt of part "
            f"{part.name!r}: tokenize more rows, or take pairs of another split"
        )
    numbers, notes = fixed_subset(data, eligible, most)
    query = data.codes(part.given, numbers)[:, 0]
    before = np.broadcast_to(shown.codes.reshape(-1), (len(numbers), shown.codes.size))
    return Cases(
        keys=[data.keys[number] for number in numbers.tolist()],
        prompt=np.concatenate((before, query), axis=1),
        new_tokens=data.tokens_per_image,
        truth_codes=data.codes(part.made, numbers)[:, 0],
        truth=lambda some: data.pixels(part.made, numbers[some]),
        legend=legend,
        notes=(*shown.notes, *notes),
    )


def _shown(part: Part, data: EvalData, seed: int, prompt: Prompt | None, prompt_split: str | None) -> _Shown:
    if prompt is None:
        return _chosen(part, data, seed, prompt_split)
    if len(prompt) < part.pairs:
        raise UserError(
            f"part {part.name!r} has {pairs_in_words(part.pairs)} as prompt, got {len(prompt)}: name that many"
        )
    nearest = prompt[len(prompt) - part.pairs :]
    own = [pair for pair in prompt if isinstance(pair, OwnPair)]
    if own:
        return _own(part, data, own[len(own) - part.pairs :])
    return _named(part, data, [str(key) for key in prompt], [str(key) for key in nearest], prompt_split)


def _chosen(part: Part, data: EvalData, seed: int, prompt_split: str | None) -> _Shown:
    source = _source(data, prompt_split)
    if len(source) <= part.pairs - (source is not data):
        rows = f"{len(source)} row{'' if len(source) == 1 else 's'}"
        judged = " and a picture to judge" if source is data else ""
        fix = "take fewer, or tokenize more rows" if part.pairs > 1 else "tokenize more rows"
        raise UserError(f"dataset {data.name!r} has {rows} in split {source.split!r}, too few for the "
                        f"{pairs_in_words(part.pairs)} of part {part.name!r}{judged}: {fix}")  # fmt: skip
    kept_for_prompts = SHOWN if len(source) > SHOWN else part.pairs
    order = first_by_hash(source.keys, max(kept_for_prompts, part.pairs), "prompt", part.given, part.made, seed)
    nearest_last = order[: part.pairs][::-1]
    notes = [_told([source.keys[number] for number in nearest_last.tolist()], source.split)]
    if source is not data or not len(order):
        return _Shown(_codes(part, source, nearest_last), [], notes)
    notes.append(f"{len(order)} rows of split {data.split} are no samples: prompts are taken from them")
    return _Shown(_codes(part, source, nearest_last), order.tolist(), notes)


def _source(data: EvalData, prompt_split: str | None) -> EvalData:
    """Returns the rows that prompts are taken from."""
    if prompt_split is None:
        prompt_split = "train" if data.facts.examples("train") else data.split
    return data if prompt_split == data.split else data.with_split(prompt_split)


def _named(part: Part, data: EvalData, keys: Sequence[str], nearest: Sequence[str], prompt_split: str | None) -> _Shown:
    if len(set(keys)) < len(keys):
        raise UserError(f"the prompt of part {part.name!r} names a key twice: {', '.join(keys)}")
    other = _source(data, prompt_split)
    sources = [data] if other is data else [data, other]
    found = {key: _find(key, sources) for key in keys}
    codes = [_codes(part, found[key][0], np.array([found[key][1]], np.int64)) for key in nearest]
    left_out = sorted(number for source, number in found.values() if source is data)
    notes = [_told(nearest, " and ".join(dict.fromkeys(found[key][0].split for key in nearest)))]
    if left_out:
        notes.append(f"{len(left_out)} rows of split {data.split} are no samples: the prompt names them")
    empty = np.empty((0, 2, data.tokens_per_image), np.uint16)
    return _Shown(np.concatenate([empty, *codes]), left_out, notes)


def _find(key: str, sources: Sequence[EvalData]) -> tuple[EvalData, int]:
    for source in sources:
        if key in source.keys:
            return source, source.keys.index(key)
    splits = " or ".join(source.split for source in sources)
    raise UserError(f"dataset {sources[0].name!r} has no row of key {key!r} in split {splits}; its keys look like "
                    f"{sources[0].keys[0]!r}: `visent show` lists them")  # fmt: skip


def _own(part: Part, data: EvalData, pairs: Sequence[OwnPair]) -> _Shown:
    for role in (part.given, part.made):
        legend = data.legend(role)
        for pair in pairs:
            if legend is not None and role != "image":
                pair.check_colours(legend, role)
    empty = np.empty((0, 2, data.tokens_per_image), np.uint16)
    codes = [pair.codes_of(part.given, part.made)[None] for pair in pairs]
    names = [f"{pair.image_name} with {pair.annotation_name}" for pair in pairs]
    return _Shown(np.concatenate([empty, *codes]), [], [_told(names, "")])


def _codes(part: Part, source: EvalData, numbers: Int64[np.ndarray, " k"]) -> UInt16[np.ndarray, "k 2 t"]:
    return np.concatenate((source.codes(part.given, numbers), source.codes(part.made, numbers)), axis=1)


def _told(names: Sequence[str], split: str) -> str:
    """Says what the prompt is made of."""
    if not names:
        return "no prompt: each query stands alone"
    where = f" of split {split}" if split else ", own pictures"
    last = ", the last one nearest to the query" if len(names) > 1 else ""
    return f"prompt of all samples: {', '.join(names)}{where}{last}"
