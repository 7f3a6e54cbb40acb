"""The sources by name, so that a finished dataset's recorded configuration builds its source again."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pipelines.sources.base import Source
from pipelines.sources.folder import FolderSource
from pipelines.sources.pairs import PairsSource
from pipelines.sources.videos import VideosSource
from pipelines.sources.webdataset import WebdatasetSource
from visent.errors import unknown

Build = Callable[[Mapping[str, str], Mapping[str, Any], int], Source]  # roots, options, items per unit


def _folder(roots: Mapping[str, str], options: Mapping[str, Any], items: int) -> Source:
    return FolderSource(paths=tuple(roots.values()), items_per_unit=items, **options)


def _pairs(roots: Mapping[str, str], options: Mapping[str, Any], items: int) -> Source:
    depth, labels = tuple(options["depth"]), tuple(options["labels"])
    return PairsSource(paths=roots, items_per_unit=items, depth=depth, labels=labels, depth_is=options["depth_is"])


def _videos(roots: Mapping[str, str], options: Mapping[str, Any], items: int) -> Source:
    return VideosSource(root=roots["video"], items_per_unit=items, **options)


def _webdataset(roots: Mapping[str, str], options: Mapping[str, Any], items: int) -> Source:
    return WebdatasetSource(root=roots["tar"], items_per_unit=items, **options)


SOURCES: Mapping[str, Build] = MappingProxyType(
    {"folder": _folder, "pairs": _pairs, "videos": _videos, "webdataset": _webdataset}
)


def rebuild(config: Mapping[str, Any]) -> Source:
    """Builds the source that a dataset's recorded configuration names.

    Raises: `UserError` for an unknown source, or when its folder is gone.
    """
    if config["source"] not in SOURCES:
        raise unknown("source", config["source"], SOURCES)
    return SOURCES[config["source"]](config["roots"], config["options"], config["items_per_shard"])
