"""A Hugging Face dataset folder: Parquet files in `data/`, and a README.md that is its card.

`datasets.load_dataset(folder)` reads it with no code of ours. A dataset's `data/` is a visent dataset too, with its
facts and receipts.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from manifests import files
from manifests.dataset import DatasetFacts, load_facts, write_facts
from manifests.exchange.hub_card import dataset_card, sentences_card
from manifests.exchange.sentences import Selection, write_parquet
from manifests.shards import ShardInfo, ShardWriter, format_of, read_rows, rejects_name, shard_name, write_receipt
from visent.errors import UserError
from visent.progress import track
from visent.staging import sent


def write_dataset(dataset: str, out: str) -> None:
    """Writes a finished dataset as a folder for the Hub; Parquet shards are copied, others written as Parquet.

    Raises:
        UserError: the dataset is unfinished, a shard is missing or changed, or `out` exists or cannot be written.
    """
    facts = load_facts(dataset)
    with _new_folder(out) as folder:
        data = str(folder / "data")
        files.make_folder(data)
        shards: list[ShardInfo] = []
        with track(f"export {facts.name}", len(facts.shards), "shards") as progress:
            for info in facts.shards:
                shards.append(_copy(dataset, data, facts, info))
                progress.advance()
        copied = replace(facts, shards=shards)
        write_facts(data, copied)
        files.write_bytes(folder / "README.md", dataset_card(copied).encode())


def write_sentences(selection: Selection, out: str) -> None:
    """Writes sentences as a folder for the Hub: one Parquet file as `sentences.write_parquet` makes it, and its card.

    Raises:
        UserError: a shard is missing or changed, or `out` exists or cannot be written.
    """
    with _new_folder(out) as folder:
        files.make_folder(folder / "data")
        path = folder / "data" / f"{selection.split}-00000-of-00001.parquet"
        write_parquet(selection, str(path))
        name = files.name(out)
        files.write_bytes(folder / "README.md", sentences_card(name, selection, path.stat().st_size).encode())


@contextmanager
def _new_folder(out: str) -> Iterator[Path]:
    """Gives a temporary folder that becomes `out` when the block ends well."""
    if files.is_url(out):
        if files.exists(out):
            raise UserError(f"{out} is there already: name another --out, or remove it")
        with sent(out) as folder:
            folder.mkdir()
            yield folder
        return
    if Path(out).exists():
        raise UserError(f"{out} is there already: name another --out, or remove it")
    files.make_folder(files.parent(out))
    temporary = Path(files.temporary_for(out))
    try:
        temporary.mkdir()
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise files.cannot_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(dataset: str, data: str, facts: DatasetFacts, info: ShardInfo) -> ShardInfo:
    """Writes one shard with its receipt and rejects; returns its new facts."""
    source = files.join(dataset, info.file)
    if not files.exists(source):
        raise UserError(f"shard {source} is missing: run the same `visent tokenize` again")
    if format_of(info.file) == "parquet":
        with files.local_copy(source) as local, files.writing(files.join(data, info.file)) as temporary:
            shutil.copyfile(local, temporary)
        found = files.sha256(files.join(data, info.file))
        if found != info.sha256:
            raise UserError(f"shard {source} changed: sha256 {found[:16]}, its facts say {info.sha256[:16]}; tokenize "
                            "it again")  # fmt: skip
        copied = info
    else:
        copied = _as_parquet(source, data, facts, info)
    write_receipt(data, copied)
    rejects = files.join(dataset, rejects_name(info.file))
    if files.exists(rejects):
        files.write_bytes(files.join(data, rejects_name(copied.file)), files.read_bytes(rejects))
    return copied


def _as_parquet(source: str, data: str, facts: DatasetFacts, info: ShardInfo) -> ShardInfo:
    views = (info.first_view, info.last_view)
    path = files.join(data, shard_name(info.unit, views))
    with ShardWriter(
        path, facts.schema, unit=info.unit, split=info.split, views=views, config_digest=info.config_digest,
        made_with=info.made_with,
    ) as writer:  # fmt: skip
        for row in read_rows(source, facts.schema):
            writer.append([row])
        return writer.close(info.rejects)
