"""The README.md of a dataset on the Hugging Face Hub, filled in from facts.

It begins with YAML as the Hub reads it (huggingface.co/docs/hub/datasets-cards): `configs` names the files of each
split, and `dataset_info` how many rows they hold, so that `datasets` notices a missing file. Lines that only the
publisher can fill in, the licence first of all, are marked FILL IN.
"""

import json
from collections.abc import Iterable, Mapping

from manifests.dataset import DatasetFacts
from manifests.exchange.sentences import Selection
from tokenizer.card import TokenizerCard

SIZES = {
    1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M", 1e8: "10M<n<100M",
    1e9: "100M<n<1B", 1e10: "1B<n<10B", 1e11: "10B<n<100B", 1e12: "100B<n<1T",
}  # fmt: skip
FILL_IN = "FILL IN"


def dataset_card(facts: DatasetFacts) -> str:
    """Returns the README.md of a dataset, filled in from its facts."""
    paths = {split: _paths(facts, split) for split in facts.splits}
    counts = {split: (sum(s.rows for s in facts.shards if s.split == split),
                      sum(s.bytes for s in facts.shards if s.split == split)) for split in facts.splits}  # fmt: skip
    tokens = facts.schema.tokens_per_image
    kinds = {"still": f"{tokens} codes (`fixed_size_list<uint16>`)", "clip": f"a list of frames, {tokens} codes each"}
    columns = {"key": "name of the example", "view": "0 the original, k the augmented view k"}
    columns |= {role: kinds[kind] for role, kind in facts.schema.roles.items()}
    columns |= {"meta": "JSON: where the example comes from, and how its view was cut"}
    per_split = [(split, f"{facts.examples(split):,}", str(facts.views(split) if split == "train" else 1),
                  f"{counts[split][0]:,}") for split in facts.splits]  # fmt: skip
    rejected = ", ".join(f"{count:,} as {reason}" for reason, count in facts.rejects.items()) or "none"
    return "\n".join([
        *_yaml(facts.name, paths, counts),
        f"# {facts.name}",
        "",
        f"Images as tokens: each image is {tokens} codes of a VQ tokenizer, row by row. One row is one example with "
        "all its annotations; sentences of tokens for training are composed when they are read.",
        "",
        *_table(("split", "examples", "views", "rows"), per_split),
        *_table(("column", "holds"), ((f"`{name}`", text) for name, text in columns.items())),
        *_tokenizer(facts.schema.card),
        *_sources(),
        "",
        f"Examples that could not be read: {rejected}. `data/dataset.json` says how it was made.",
        "",
        "## Read it",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'rows = load_dataset("path/or/name", split="train")',
        "```",
        "",
        "`data/` is also a dataset of visent: name it in a manifest, or `visent show data --out rows.png`.",
        "",
    ])  # fmt: skip


def sentences_card(name: str, selection: Selection, size: int) -> str:
    """Returns the README.md of exported sentences."""
    stage = selection.lock.stage(selection.stage)
    shares = [(task.task.name, task.task.kind, " ".join(task.task.sentence), f"{stage.share(task):.2%}")
              for task in stage.tasks]  # fmt: skip
    columns = {
        "sentence": "its number in the order of training", "task": "of the manifest", "dataset": "of the manifest",
        "tokens": f"{selection.context} codes, image by image", "keys": "of each image in order",
        "views": "0 the original, k the augmented view k", "roles": "what each image shows",
        "frames": "which frame of a clip; null for a still",
    }  # fmt: skip
    split = selection.split
    return "\n".join([
        *_yaml(name, {split: [f"data/{split}-*.parquet"]}, {split: (len(selection), size)}),
        f"# {name}",
        "",
        f"Visual sentences: {len(selection):,} of {selection.context} tokens each, numbers {selection.first} to "
        f"{selection.end - 1} of stage `{selection.stage}`, split `{split}`, seed {selection.seed}. The digest of the "
        f"lock is `{selection.lock.digest}`.",
        "",
        *_table(("task", "kind", "sentence", "share"), shares),
        *_table(("column", "holds"), ((f"`{name}`", text) for name, text in columns.items())),
        *_tokenizer(selection.lock.card),
        *_sources(),
        "",
    ])  # fmt: skip


def _yaml(name: str, paths: Mapping[str, list[str]], counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Returns the card's YAML; strings are JSON, which is YAML too."""
    rows, size = sum(count for count, _ in counts.values()), sum(size for _, size in counts.values())
    category = next((label for limit, label in SIZES.items() if rows < limit), "n>1T")
    lines = ["---", f"# license: {FILL_IN} (codes decode to pictures: the terms of the pictures hold)",
             f"pretty_name: {json.dumps(name)}", 'tags: ["visent", "image-tokens", "vq"]',
             f'size_categories: ["{category}"]', "configs:", "- config_name: default", "  data_files:"]  # fmt: skip
    for split, patterns in paths.items():
        lines += [f"  - split: {split}", f"    path: {json.dumps(patterns)}"]
    lines += ["dataset_info:", "  splits:"]
    for split, (count, stored) in counts.items():
        lines += [f"  - name: {split}", f"    num_examples: {count}", f"    num_bytes: {stored}"]
    return [*lines, f"  download_size: {size}", f"  dataset_size: {size}", "---", ""]


def _paths(facts: DatasetFacts, split: str) -> list[str]:
    """Returns a pattern for the shards of a split, or all their names where a pattern would catch others."""
    mine = [shard.file for shard in facts.shards if shard.split == split]
    others = [shard.file for shard in facts.shards if shard.split != split]
    prefix = f"{split}-"
    if all(f.startswith(prefix) for f in mine) and not any(f.startswith(prefix) for f in others):
        return [f"data/{prefix}*.parquet"]
    return [f"data/{file}" for file in mine]


def _tokenizer(card: TokenizerCard) -> list[str]:
    facts = {
        "name": card.name, "fingerprint": card.fingerprint, "weights sha256": card.weights_sha256,
        "image": f"{card.image_size} x {card.image_size} pixels, preset {card.preset}",
        "codes of an image": f"{card.grid} x {card.grid}", "codebook": f"{card.codebook_size:,} codes",
        "precision": card.precision, **{name: str(value) for name, value in card.about.items()},
    }  # fmt: skip
    return ["## Tokenizer", "", *_table(("", ""), facts.items())]


def _sources() -> list[str]:
    return ["## Sources and licence", "", f"- Licence: {FILL_IN}", f"- Sources and how to cite them: {FILL_IN}"]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines, ""]
