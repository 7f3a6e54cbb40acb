"""`visent report`: one dataset as a page of HTML."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manifests import files
from manifests.dataset import DatasetFacts, load_facts
from manifests.shards import ShardInfo, read_rows, rejects_name
from pipelines.contents import Contents, RoleContents
from pipelines.reporting import plots
from pipelines.reporting.samples import Origin, Sample, origin, samples
from pipelines.reporting.speed import speed
from pipelines.show import tokenizer_of
from pipelines.worklog import ShardLog, read_logs
from tokenizer.tokenizer import Tokenizer
from visent.errors import UserError
from visent.page import Page
from visent.progress import track

UNITS = ("kB", "MB", "GB", "TB")
EXAMPLES = 5  # of the rejects of each reason


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a report is to hold."""

    rows: int = 8  # on the contact sheet
    shards: int = 16  # whose codes are counted, spread over the dataset
    originals: bool = True
    tokenizer: str | None = None  # None for the dataset's own

    def __post_init__(self) -> None:
        for name in ("rows", "shards"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}, expected 1 or more")


def write_report(folder: str, out: str, wanted: Wanted) -> str:
    """Writes the page and returns its path.

    What cannot be shown is said in its place: pictures without the tokenizer, originals without the source.

    Raises:
        UserError: the dataset is unfinished or damaged, or the page cannot be written.
    """
    facts = load_facts(folder)
    files.make_folder(files.parent(out))
    page = Page(f"Dataset {facts.name}", _lead(facts))
    page.tiles(_tiles(facts))
    with track(f"report {facts.name}", 4, "parts") as progress:
        coder = _tokenizer(facts, wanted, page)
        _contact_sheet(page, folder, facts, coder, wanted)
        progress.advance(note="rows")
        _codes(page, folder, facts, coder, wanted)
        progress.advance(note="codes")
        _rejects(page, folder, facts)
        _sizes(page, facts)
        progress.advance(note="sizes")
        speed(page, _logs(folder, facts), len(facts.shards))
        progress.advance(note="speed")
    page.heading("Configuration", "All that decides the dataset's bytes, as it stands in dataset.json.")
    page.details("show", json.dumps(dict(facts.config), indent=1, ensure_ascii=False))
    files.write_bytes(out, page.html().encode())
    return out


def _logs(folder: str, facts: DatasetFacts) -> list[ShardLog]:
    return list(read_logs(folder, [shard.file for shard in facts.shards]).values())


def _lead(facts: DatasetFacts) -> str:
    card = facts.schema.card
    roles = ", ".join(f"{role} ({kind})" for role, kind in facts.schema.roles.items())
    return (
        f"From source {facts.config.get('source', 'unknown')}; roles {roles}; tokenizer {card.name} "
        f"({card.fingerprint}), {card.tokens_per_image} tokens an image, of a codebook of {card.codebook_size:,}."
    )


def _tiles(facts: DatasetFacts) -> list[tuple[str, str]]:
    size, rows = sum(shard.bytes for shard in facts.shards), sum(shard.rows for shard in facts.shards)
    rejected, listed = sum(facts.rejects.values()), sum(facts.examples(split) for split in facts.splits)
    share = rejected / max(rejected + listed, 1)
    return [
        *((f"examples, {split}", f"{facts.examples(split):,}") for split in facts.splits),
        ("rows, all views", f"{rows:,}"), ("shards", f"{len(facts.shards):,}"), ("size", in_bytes(size)),
        ("rejected", f"{rejected:,} ({share:.2%})"),
    ]  # fmt: skip


def in_bytes(count: int) -> str:
    """Writes bytes in the unit that fits."""
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, len(UNITS))
    return f"{count / 1000**power:,.1f} {UNITS[power - 1]}"


def _tokenizer(facts: DatasetFacts, wanted: Wanted, page: Page) -> Tokenizer | None:
    try:
        return tokenizer_of(wanted.tokenizer, facts.config, facts.schema.card)
    except UserError as error:
        if wanted.tokenizer:
            raise
        page.text(f"No pictures are shown: {error}")
        return None


def _contact_sheet(page: Page, folder: str, facts: DatasetFacts, coder: Tokenizer | None, wanted: Wanted) -> None:
    if coder is None:
        return
    source: Origin | None = None
    note = "Each role as its codes show it."
    if wanted.originals:
        try:
            source = origin(folder, facts)
            note = (
                "Each role as the source has it, where it still does, above what its codes show of it, with the ratio "
            )
            note += "of signal to noise."
        except UserError as error:
            note += f" The originals are not at hand: {error}"
    shown = samples(folder, facts, coder, wanted.rows, source)
    page.heading("Rows", f"{len(shown)} examples, spread over the shards. {note}")
    page.sheet([(f"{sample.key} · {sample.split}", _columns(sample)) for sample in shown])


def _columns(sample: Sample) -> list[tuple[str, list[np.ndarray]]]:
    """Returns a column for each picture of a sample: the original, where there is one, above the decoded."""
    columns = []
    for role, decoded in sample.decoded.items():
        originals, ratio = sample.originals.get(role, ()), sample.decibels(role)
        for at, picture in enumerate(decoded):
            label = role if len(decoded) == 1 else f"{role} {at + 1} of {len(decoded)}"
            label += f" {ratio:.1f} dB" if ratio is not None and at == 0 else ""
            columns.append((label, [*([originals[at]] if at < len(originals) else []), picture]))
    return columns


def _codes(page: Page, folder: str, facts: DatasetFacts, coder: Tokenizer | None, wanted: Wanted) -> None:
    size = facts.schema.card.image_size
    black = None if coder is None else np.asarray(coder.encode(np.zeros((1, size, size, 3), np.uint8))[0])
    contents = Contents(facts.schema, black)
    having = [shard for shard in facts.shards if shard.rows]
    chosen = _spread(having, wanted.shards)
    for shard in chosen:
        for row in read_rows(files.join(folder, shard.file), facts.schema):
            contents.add(row)
    roles = contents.finish()
    counted = "all" if len(chosen) == len(having) else f"{len(chosen)} of {len(having):,}"
    page.heading("Codebook", f"Codes of {counted} shards. Perplexity is how many equally likely codes would be as "
                 "hard to guess; a picture is uniform where one code fills it but for the border.")  # fmt: skip
    head = ("role", "pictures", "codes in use", "of the codebook", "perplexity", "uniform", "black")
    page.table(head, [_role(name, role, black is not None) for name, role in roles.items()])
    page.plot(plots.codebook({name: role.counts for name, role in roles.items()}), "How often each code occurs.")


def _role(name: str, role: RoleContents, looked: bool) -> tuple[str, ...]:
    return (name, f"{role.images:,}", f"{role.codes:,}", f"{role.codes / len(role.counts):.1%}",
            f"{role.perplexity:,.1f}", f"{role.uniform:,}", f"{role.black:,}" if looked else "?")  # fmt: skip


def _spread(shards: Sequence[ShardInfo], count: int) -> list[ShardInfo]:
    """Takes evenly spaced shards."""
    places = np.unique(np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int)) if shards else ()
    return [shards[int(at)] for at in places]


def _rejects(page: Page, folder: str, facts: DatasetFacts) -> None:
    """Adds the rejects by reason, each with a few examples from the shards' lists."""
    rejected = Counter(facts.rejects)
    listed = sum(facts.examples(split) for split in facts.splits) + sum(rejected.values())
    page.heading("Rejects", f"{sum(rejected.values()):,} of {listed:,} listed examples gave no row.")
    if not rejected:
        return
    ordered = dict(rejected.most_common())
    page.plot(plots.bars({reason: float(count) for reason, count in ordered.items()}, "examples"), "By reason.")
    examples = _reject_examples(folder, facts, list(ordered))
    rows = []
    for reason, count in ordered.items():
        for at, one in enumerate(examples[reason] or [{}]):
            first = (reason, f"{count:,}", f"{count / listed:.3%}") if at == 0 else ("", "", "")
            rows.append((*first, one.get("stage", ""), one.get("key", ""), one.get("detail", "")))
    page.table(("reason", "examples", "of all", "stage", "key", "detail"), rows, numbers_from=9)
    page.text("visent tokenize --retry-rejects tries them again, all or those of one reason.")


def _reject_examples(folder: str, facts: DatasetFacts, reasons: Sequence[str]) -> dict[str, list[Mapping[str, str]]]:
    """Reads a few rejects of each reason; of a large dataset, from few of its shards."""
    chosen: set[str] = set()
    for reason in reasons:
        having = [shard for shard in facts.shards if shard.first_view == 0 and shard.rejects.get(reason)]
        chosen |= {rejects_name(shard.file) for shard in _spread(having, EXAMPLES)}
    found: dict[str, list[Mapping[str, str]]] = {reason: [] for reason in reasons}
    for text in files.read_many(folder, sorted(chosen)):
        for reject in map(_reject, (text or b"").splitlines()):
            if len(found.get(reject["reason"], range(EXAMPLES))) < EXAMPLES:
                found[reject["reason"]].append(reject)
    return found


def _reject(line: bytes) -> dict[str, str]:
    """Reads a line of a rejects file; one that is damaged is of no reason and no example."""
    try:
        fields = json.loads(line)
        return {name: str(fields[name]) for name in ("reason", "stage", "key", "detail")}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"reason": ""}


def _sizes(page: Page, facts: DatasetFacts) -> None:
    page.heading("Sizes")
    groups: dict[tuple[str, str], list[ShardInfo]] = {}
    for shard in facts.shards:
        views = "original" if shard.first_view == 0 else f"views {shard.first_view} to {shard.last_view}"
        groups.setdefault((shard.split, views), []).append(shard)
    page.table(
        ("split", "views", "shards", "rows", "bytes", "bytes a row"),
        [(*group, f"{len(own):,}", f"{sum(one.rows for one in own):,}", in_bytes(sum(one.bytes for one in own)),
          f"{sum(one.bytes for one in own) / max(sum(one.rows for one in own), 1):,.0f}")
         for group, own in groups.items()],
        numbers_from=2,
    )  # fmt: skip
    page.plot(plots.histogram([shard.bytes / 1e6 for shard in facts.shards], "MB"), "Sizes of the shards.")
    lengths: Counter[int] = Counter()
    for shard in facts.shards:
        if shard.first_view == 0:
            lengths.update(shard.frames)
    if lengths:
        page.table(("frames", "clips"), [(f"{length:,}", f"{lengths[length]:,}") for length in sorted(lengths)], 0)
