"""DataComp (Gadre et al., DataComp: In search of the next generation of multimodal datasets, 2023)."""

import fnmatch
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources import places
from pipelines.sources.base import Item
from pipelines.sources.dataset import option
from pipelines.sources.files import below
from pipelines.sources.img2dataset import Chosen, Img2dataset
from pipelines.sources.selection import Condition, column_named, mask
from pipelines.sources.uids import Uids, count_different, halves, held, read_uids
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DataComp(Img2dataset):
    """DataComp: photos from the web, chosen by lists of uids or by scores.

    <root>/shards/<8 digits>.tar, .parquet and _stats.json, as download_upstream.py writes them
    <root>/metadata/*.parquet, where scores such as clip_b32_similarity_score are

    A row's key is its uid. A column that the parquet beside a tar lacks is looked up in metadata/. What was chosen by
    a list of uids (--uids) and by conditions must meet both.
    """

    uids: str | None = option(None, "A .npy of dtype u8,u8 as DataComp publishes: take these samples, each once.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uids is not None:  # found again from any folder when views are added
            object.__setattr__(self, "uids", places.absolute(self.uids))

    def chooser(self) -> Callable[[Item], Chosen] | None:
        """Says which samples the list of uids holds and the conditions admit."""
        if self.uids is None and not self.conditions:
            return None
        return _Chooser(self, None if self.uids is None else read_uids(self.uids))

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the tars that hold a wanted sample; counts what the list of uids names besides."""
        found = 0
        for item in super().items(split, left_out):
            found += item.data["chosen"]["count"] if "chosen" in item.data else 0
            yield item
        if self.uids is not None:
            uids = read_uids(self.uids)
            different = count_different(uids)
            left_out["repetitions in the list of uids"] += len(uids) - different
            if not self.conditions:
                left_out["listed uids that no tar holds"] += different - found


class _Chooser:
    """Says for each sample of a tar whether it is wanted; reads metadata/ once, when it is needed."""

    def __init__(self, dataset: DataComp, uids: Uids | None) -> None:
        self._dataset, self._uids = dataset, uids
        self._of_metadata: dict[tuple[Condition, ...], Uids] = {}
        self._reading = threading.Lock()

    def __call__(self, item: Item) -> Chosen:
        conditions = self._dataset.conditions
        table = self._dataset.table(item, ["uid"], [condition.column for condition in conditions])
        here = [condition for condition in conditions if condition.column in table.column_names]
        elsewhere = tuple(condition for condition in conditions if condition not in here)
        chosen = mask(table, here)
        uids = halves(table["uid"].fill_null("").to_pylist())
        if self._uids is not None:
            chosen &= held(self._uids, uids)
        return chosen & held(self._metadata(elsewhere), uids) if elsewhere else chosen

    def _metadata(self, conditions: tuple[Condition, ...]) -> Uids:
        with self._reading:
            if conditions not in self._of_metadata:
                self._of_metadata[conditions] = _uids_where(below(self._dataset.root, "metadata"), conditions)
            return self._of_metadata[conditions]


def _uids_where(folder: str, conditions: Sequence[Condition]) -> Uids:
    """Returns the uids of the rows in a folder of parquet files that meet conditions, sorted.

    Raises: `UserError` when the folder or a column is not there.
    """
    columns = [condition.column for condition in conditions]
    names = fnmatch.filter(places.names_in(folder), "*.parquet") if places.is_folder(folder) else []
    if not names:
        raise UserError(
            f"column {columns[0]!r} is not in the parquet beside the tars, and {folder} has none: fetch one"
        )
    try:
        parts = []
        for name in names:
            with places.openable(below(folder, name)) as opened, pq.ParquetFile(opened) as metadata:
                parts += _of_metadata(metadata, conditions, folder)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {folder}: {error}; fetch it again") from error
    return np.sort(np.concatenate(parts)) if parts else halves([])


def _of_metadata(file: pq.ParquetFile, conditions: Sequence[Condition], folder: str) -> list[Uids]:
    there = file.schema_arrow.names
    found = {name: column_named(name, there) for name in ["uid", *(condition.column for condition in conditions)]}
    for name, column in found.items():
        if column is None:
            listing = ", ".join(there)
            raise UserError(
                f"column {name!r} is neither beside the tars nor in {folder}; choose one of these: {listing}"
            )
    parts = []
    for batch in file.iter_batches(columns=list(found.values())):
        table = pa.table({name: batch[column] for name, column in found.items()})
        wanted = table["uid"].filter(pa.array(mask(table, conditions)))
        parts.append(halves(wanted.to_pylist()))
    return parts
