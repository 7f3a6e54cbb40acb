"""Receipts of many shards at once: two listings of a folder instead of two requests for each shard."""

from collections.abc import Iterable

from manifests import files
from manifests.shards import ShardInfo, receipt_name
from visent.errors import UserError
from visent.untrusted.documents import parse_json

AT_ONCE = 4096  # receipts held as text


def read_receipts(folder: str, shards: Iterable[str] | None = None) -> dict[str, ShardInfo]:
    """Returns the receipts of finished shards by the shard's file name, sorted; of all shards without `shards`.

    A shard is finished when it lies in the folder with the size that its receipt says.

    Raises:
        UserError: a receipt is not one.
    """
    sizes = files.list_sizes(folder)
    wanted = sizes.keys() if shards is None else set(shards) & sizes.keys()
    names = sorted(
        name for name in wanted if name.endswith((".parquet", ".arrayrecord")) and receipt_name(name) in sizes
    )
    found = {}
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        for name, text in zip(part, files.read_many(folder, [receipt_name(name) for name in part], sizes), strict=True):
            info = None if text is None else _parsed(folder, name, text)
            if info is not None and info.bytes == sizes[name]:
                found[name] = info
    return found


def _parsed(folder: str, name: str, text: bytes) -> ShardInfo:
    try:
        return ShardInfo.from_json(parse_json(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{files.join(folder, receipt_name(name))} is not valid JSON ({error}): it was changed by hand or damaged; "
            "remove it and run the command that wrote it again"
        ) from error
