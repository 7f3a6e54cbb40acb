"""InstructPix2Pix (Brooks et al., InstructPix2Pix: Learning to Follow Image Editing Instructions, 2023)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import below, readable
from pipelines.sources.reading import example_of_files, picture, read_file, read_json
from visent.errors import UserError
from visent.untrusted.documents import parse_json

SHARES = {"train": (0.0, 0.9), "val": (0.9, 0.9 + 0.05), "test": (0.9 + 0.05, 1.0)}  # of seeds.json; edit_dataset.py
SCORES = ("p2p_threshold", "cfg_scale", "clip_sim_0", "clip_sim_1", "clip_sim_dir", "clip_sim_image")


@dataclass(frozen=True, kw_only=True)
class InstructPix2Pix(Dataset):
    """InstructPix2Pix: made pictures before and after an edit, with the edit in words.

    <root>/seeds.json                                 [[folder, [seed, ...]], ...]
    <root>/<folder>/<seed>_{0,1}.jpg                  before, after
    <root>/<folder>/prompt.json                       {caption, edit, output}
    <root>/<folder>/metadata.jsonl                    scores by seed; may be absent

    The root is clip-filtered-dataset or random-sample-dataset. Splits are the first 90 %, the next 5 % and the last 5 %
    of seeds.json, as in the publisher's training.
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The picture before the edit and after it."""
        return {"image": "still", "edited": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists every seed of the split's folders."""
        path = below(self.root, "seeds.json")
        if not places.exists(path):
            return
        seeds = read_json(path)
        try:
            first, last = (int(share * len(seeds)) for share in SHARES[split])
            folders = [below(self.root, folder) for folder, _ in seeds[first:last]]
            found = places.at_once(_files_in, folders, self.root)
            for (folder, names), there in zip(seeds[first:last], found, strict=True):
                for seed in names:
                    yield _item(folder, str(seed), there)
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"{readable(path)} is not [[folder, [seed, ...]], ...]: {error}; fetch it again") from error

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both pictures and the words."""
        prompt = self._prompt(item)
        if isinstance(prompt, Reject):
            yield prompt
            return
        pair = example_of_files(self.root, item, {"image": picture, "edited": picture}, prompt)
        if isinstance(pair, Example) and "scores" in item.files:
            scores = read_file(item.key, pair.source, below(self.root, item.files["scores"]))
            if isinstance(scores, bytes):
                pair = replace(pair, meta={**pair.meta, **_scores(scores, item.data["seed"])})
        yield pair

    def _prompt(self, item: Item) -> dict[str, Any] | Reject:
        source = readable(item.files["prompt"])
        data = read_file(item.key, source, below(self.root, item.files["prompt"]))
        if isinstance(data, Reject):
            return data
        try:
            prompt = parse_json(data)
            words = {"edit": prompt["edit"], "caption": prompt.get("caption", prompt.get("input", ""))}
            return {**words, "edited_caption": prompt.get("output", "")}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Reject(key=item.key, source=source, stage="read", reason="bad-prompt", detail=repr(error))


def _files_in(folder: str) -> set[str]:
    try:
        return set(places.names_in(folder))
    except OSError:
        return set()


def _item(folder: str, seed: str, there: set[str]) -> Item:
    names = {"image": f"{seed}_0.jpg", "edited": f"{seed}_1.jpg", "prompt": "prompt.json", "scores": "metadata.jsonl"}
    files = {role: below(folder, name) for role, name in names.items() if name in there}
    missing = next((role for role in names if role not in files and role != "scores"), None)
    reject = f"missing-{missing}" if missing else ""
    return Item(key=f"{readable(folder)}/{seed}", files=files, data={"seed": seed}, reject=reject)


def _scores(data: bytes, seed: str) -> dict[str, float]:
    """Returns the scores of a seed; none when the file does not have them."""
    for line in data.decode(errors="replace").splitlines():
        try:
            scores = parse_json(line)
        except ValueError:
            continue
        if isinstance(scores, dict) and str(scores.get("seed")) == seed:
            return {
                name: round(float(scores[name]), 4) for name in SCORES if isinstance(scores.get(name), (int, float))
            }
    return {}
