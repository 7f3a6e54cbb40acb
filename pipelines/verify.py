"""Reading a dataset back and comparing it with its facts and receipts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests import files
from manifests.dataset import DatasetFacts, load_facts
from manifests.schema import check_row, frames_of
from manifests.shards import ShardInfo, read_receipt, read_rows
from pipelines.contents import Contents, RoleContents, black_codes
from pipelines.duplicates import SeenKeys, doubled_keys
from pipelines.job import SHARD_ENDINGS
from visent.errors import UserError
from visent.progress import track


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found in one dataset; it is sound when `problems` is empty."""

    folder: str
    shards: int
    rows: int
    bytes: int
    problems: tuple[str, ...]
    made_with: tuple[str, ...]  # what computed the codes; several of them differ in a few tokens of a thousand
    tokenizer: str = ""  # name and fingerprint
    roles: Mapping[str, RoleContents] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what is odd but no fault, or could not be looked at

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        roles = {name: role.to_json() for name, role in self.roles.items()}
        whole = {name: value for name, value in self.__dict__.items() if name != "roles"}
        return {**whole, "sound": not self.problems, "roles": roles}


def verify_dataset(folder: str, tokenizer: str | None = None) -> Verified:
    """Reads every byte of a dataset: checksums, rows, keys, roles, codes within the codebook, receipts, stray shards.

    Counts what the roles use of the codebook and which pictures are uniform or black; that a picture is black is told
    by its tokenizer, `tokenizer` or the one that the dataset's configuration names. Memory does not grow with the
    dataset but for hashes of keys, 64th part by part (see `duplicates.py`).

    Raises:
        UserError: the dataset is unfinished or does not exist, or `tokenizer` is not its own.
    """
    facts = load_facts(folder)
    black = black_codes(facts, tokenizer)
    notes = [f"black pictures were not looked for: {black}"] if isinstance(black, str) else []
    contents = Contents(facts.schema, None if isinstance(black, str) else black)
    problems: list[str] = []
    with SeenKeys() as seen:
        with track(f"verify {facts.name}", len(facts.shards), "shards") as progress:
            for shard in facts.shards:
                problems += [f"{shard.file}: {problem}" for problem in _shard(folder, facts, shard, contents, seen)]
                progress.advance()
        if not problems:
            problems += doubled_keys(folder, facts, seen)
        else:
            notes.append("keys that several shards share were not looked for: mend the shards first")
    known = {shard.file for shard in facts.shards}
    strays = [name for name in files.list_names(folder) if name.endswith(SHARD_ENDINGS) and name not in known]
    problems += [f"{name}: not in the facts; remove it, or finish the job that it belongs to" for name in strays]
    problems += _views(facts)
    roles = contents.finish()
    return Verified(
        folder=folder, shards=len(facts.shards), rows=sum(shard.rows for shard in facts.shards),
        bytes=sum(shard.bytes for shard in facts.shards), problems=tuple(problems),
        made_with=tuple(sorted({_environment(shard) for shard in facts.shards})),
        tokenizer=f"{facts.schema.card.name} ({facts.schema.card.fingerprint})", roles=roles,
        notes=tuple([*notes, *_without_content(roles)]),
    )  # fmt: skip


def _without_content(roles: Mapping[str, RoleContents]) -> list[str]:
    """Returns a warning for each role that has black or uniform pictures."""
    found = []
    for name, role in roles.items():
        for kind, count in (("black", role.black), ("uniform", role.uniform)):
            if count:
                keys = ", ".join(repr(key) for key in role.examples[kind])
                found.append(f"{count:,} of {role.images:,} pictures of role {name} are {kind}, as in {keys}")
    return found


def tokenizer_mismatch(results: Sequence[Verified]) -> list[str]:
    """Returns a problem where datasets hold codes of different tokenizers: no manifest can read them together."""
    by_tokenizer: dict[str, list[str]] = {}
    for result in results:
        by_tokenizer.setdefault(result.tokenizer, []).append(result.folder)
    if len(by_tokenizer) < 2:
        return []
    named = "; ".join(f"{name}: {', '.join(folders)}" for name, folders in by_tokenizer.items())
    return [f"these datasets hold tokens of different tokenizers ({named}): one manifest cannot read them together"]


def _environment(shard: ShardInfo) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(shard.made_with.items())) or "not recorded"


def _shard(folder: str, facts: DatasetFacts, shard: ShardInfo, contents: Contents, seen: SeenKeys) -> list[str]:
    path = files.join(folder, shard.file)
    if not files.exists(path):
        return ["is missing; run the same `visent tokenize` again"]
    digest = files.sha256(path)
    if digest != shard.sha256:
        return [f"has sha256 {digest[:16]}, the facts say {shard.sha256[:16]}; remove it and tokenize again"]
    try:
        receipt = read_receipt(folder, shard.file)
        problems = [] if receipt == shard else ["its receipt is missing or differs from the facts"]
        return problems + _rows(path, facts, shard, contents, seen)
    except (UserError, ValueError) as error:
        return [str(error)]


def _rows(path: str, facts: DatasetFacts, shard: ShardInfo, contents: Contents, seen: SeenKeys) -> list[str]:
    """Counts and checks the rows; `check_row` raises for wrong roles, shapes and codes outside of the codebook."""
    problems = []
    views = range(shard.first_view, shard.last_view + 1)
    keys: dict[int, list[str]] = {view: [] for view in views}
    frames: dict[int, int] = {}
    for row in read_rows(path, facts.schema):
        check_row(row, facts.schema)
        contents.add(row)
        if row.view not in keys:
            problems.append(f"row {row.key!r} has view {row.view}, the facts say {views[0]} to {views[-1]}")
            continue
        keys[row.view].append(row.key)
        length = frames_of(row, facts.schema)
        if length is not None and row.view == views[0]:
            frames[length] = frames.get(length, 0) + 1
    counts = tuple(len(keys[view]) for view in views)
    if counts != shard.rows_per_view:
        problems.append(f"holds {counts} rows in its views, the facts say {shard.rows_per_view}")
    if frames != dict(shard.frames):
        problems.append(f"holds clips of {frames} frames, the facts say {dict(shard.frames)}")
    if any(names != keys[views[0]] for names in keys.values()):
        problems.append("its views do not hold the same keys in the same order")
    if any(len(set(names)) < len(names) for names in keys.values()):
        problems.append("a key occurs twice in one view")
    if shard.first_view == 0:
        seen.add(keys[0])
    return problems


def _views(facts: DatasetFacts) -> list[str]:
    """Compares the keys of each unit's shards: a view belongs to the original of the same place."""
    first = {shard.unit: shard.keys_sha256 for shard in facts.shards if shard.first_view == 0}
    return [f"{shard.file}: its keys are not those of view 0" for shard in facts.shards
            if first.get(shard.unit) != shard.keys_sha256]  # fmt: skip


def report(results: Sequence[Verified]) -> bool:
    """Prints tables and every problem; returns whether all datasets are sound and of one tokenizer."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if Console().is_terminal else Console(width=160)
    table = Table("dataset", "shards", "rows", "MB", "problems")
    used = Table("dataset", "role", "pictures", "codes in use", "perplexity", "black", "uniform")
    for result in results:
        table.add_row(result.folder, str(result.shards), f"{result.rows:,}", f"{result.bytes / 1e6:,.2f}",
                      str(len(result.problems)))  # fmt: skip
        for name, role in result.roles.items():
            used.add_row(result.folder, name, f"{role.images:,}", f"{role.codes:,} of {len(role.counts):,}",
                         f"{role.perplexity:,.1f}", f"{role.black:,}", f"{role.uniform:,}")  # fmt: skip
    console.print(table, used)
    for result in results:
        for problem in result.problems:
            print(f"{result.folder}: {problem}")
        for note in result.notes:
            print(f"{result.folder}: note: {note}")
        if len(result.made_with) > 1:
            print(
                f"{result.folder}: note: its shards were made in {len(result.made_with)} environments "
                f"({'; '.join(result.made_with)}), which differ in about one token of a thousand"
            )
    mismatch = tokenizer_mismatch(results)
    print("".join(f"{problem}\n" for problem in mismatch), end="")
    return not mismatch and not any(result.problems for result in results)
