"""A published dataset in its own layout, and the source that any such dataset becomes."""

import abc
import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from manifests.legend import Legend
from pipelines.sources import places
from pipelines.sources.base import SPLITS, Example, Item, Reject, Unit
from pipelines.sources.files import checked_root, noted, readable
from pipelines.sources.trust import trusted
from visent.errors import UserError, said, unknown

RoleKind = Literal["still", "clip"]


class Dataset(abc.ABC):
    """One dataset: a frozen dataclass whose fields, after `root`, are the options of its command.

    The first line of the class's docstring says what it is, the rest shows the layout below `root`. Every method is a
    pure function of the fields and the files; an instance is small and travels to the workers.
    """

    root: str
    splits: ClassVar[tuple[str, ...]] = ("train",)  # those the publisher has, of "train", "val" and "test"
    items_per_shard: ClassVar[int] = 2048
    small_items: ClassVar[bool] = True  # of a few files and one example: of a bucket, several are read at once

    @property
    @abc.abstractmethod
    def roles(self) -> Mapping[str, RoleKind]:
        """The columns of a row, the input first."""

    @property
    def legends(self) -> Mapping[str, Legend]:
        """The classes and colours of those roles that are maps of classes, for figures such as mIoU."""
        return {}

    @abc.abstractmethod
    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists a split; nothing when the split is not there. Order is free, keys differ between splits.

        What can give no row though the publisher lists it (no mask, no picture) is an item with `reject`. What is not
        meant (an image without a person, for poses) is counted in `left_out` by a plural noun.

        Raises: `UserError` for a file of the layout that cannot be read as what it should be.
        """

    @abc.abstractmethod
    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads an item: an `Example` or a `Reject` for each thing in it; never raises for bad media."""

    def located(self) -> "Dataset":
        """Returns the dataset with the absolute path, or the URL, of its root.

        Raises: `UserError` unless that is a folder.
        """
        return replace(self, root=checked_root(self.root))  # type: ignore[type-var, no-any-return]

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Guesses how many pictures (stills or frames of one role) the items hold, for the ETA only."""
        return len(items)


def option(default: Any, help: str) -> Any:
    """Declares a field of a dataset that its command offers as an option."""
    return field(default=default, metadata={"help": help})


def check_chosen(option: str, chosen: Sequence[str], known: Collection[str]) -> None:
    """Checks an option that takes several names, such as `--annotations semantic,instances`.

    Raises: `UserError` when there is none, one is unknown or comes twice.
    """
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(
            f"{option} takes one or more of {', '.join(known)}, each once; got {','.join(chosen) or 'none'}"
        )
    for name in chosen:
        if name not in known:
            raise unknown(f"name in {option}", name, known)


@dataclass(frozen=True, kw_only=True)
class DatasetSource:
    """The `Source` of a dataset: chooses splits, sorts, finds doubled keys, and passes unit by unit to the dataset.

    Without `splits`, all that are there are read.
    """

    name: str
    dataset: Dataset
    items_per_unit: int
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", self.dataset.located())
        for split in self.splits:
            if split not in self.dataset.splits:
                raise unknown(f"split of {self.name}", split, self.dataset.splits)

    @property
    def roots(self) -> Mapping[str, str]:
        """Where the files lie."""
        return {"root": self.dataset.root}

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The dataset's."""
        return self.dataset.roles

    @property
    def legends(self) -> Mapping[str, Legend]:
        """The dataset's, of the roles that it has with its options."""
        return {role: legend for role, legend in self.dataset.legends.items() if role in self.dataset.roles}

    @property
    def options(self) -> Mapping[str, Any]:
        """The dataset's fields besides `root`, and the splits."""
        names = [field.name for field in dataclasses.fields(self.dataset) if field.name != "root"]  # type: ignore[arg-type]
        return {**{name: getattr(self.dataset, name) for name in names}, "splits": list(self.splits)}

    def listing(self) -> tuple[list[Item], str]:
        """Lists the splits, each sorted by key; of items with one key all but the first are rejects.

        Raises: `UserError` when a wanted split, or everything, is empty.
        """
        left_out: Counter[str] = Counter()
        found: list[Item] = []
        with places.remembering(self.dataset.root):
            for split in [split for split in SPLITS if split in (self.splits or self.dataset.splits)]:
                listed = sorted(self._items(split, left_out), key=_order)
                if not listed and self.splits:
                    raise self._nothing(f"split {split!r} of {self.name}", left_out)
                found += [trusted(replace(item, split=item.split or split)) for item in listed]
        if not found:
            raise self._nothing(self.name, left_out)
        return _without_doubles(found), noted(left_out)

    def _items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists a split; where a list holds other kinds of values than it should, that is told in one line."""
        try:
            yield from self.dataset.items(split, left_out)
        except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RecursionError) as error:
            raise UserError(
                f"the lists of {self.name} in {readable(self.dataset.root)} hold what they should not "
                f"({type(error).__name__}: {said(error)[:200]}); fetch them again"
            ) from error

    def _nothing(self, what: str, left_out: Mapping[str, int]) -> UserError:
        root = self.dataset.root
        names = places.names_in(root) if places.is_folder(root) else []
        there = sorted(map(readable, names))[:8]
        besides = "".join(f"; left out {count:,} {noun}" for noun, count in left_out.items())
        return UserError(
            f"found nothing of {what} in {readable(root)}, which holds {', '.join(there) or 'nothing'}"
            f"{besides}; expected the layout that `visent sources {self.name}` shows"
        )

    def by_item(self, unit: Unit) -> Iterator[Iterable[Example | Reject]]:
        """Reads the unit's items in their order."""
        if self.dataset.small_items:
            return places.at_once(lambda item: list(self._of_item(item)), unit.items, self.dataset.root)
        return map(self._of_item, unit.items)

    def examples(self, unit: Unit) -> Iterator[Example | Reject]:
        """Gives what `by_item` gives, one after the other."""
        return itertools.chain.from_iterable(self.by_item(unit))

    def _of_item(self, item: Item) -> Iterator[Example | Reject]:
        if item.reject:
            source = readable(next(iter(item.files.values()), ""))
            yield Reject(key=item.key, source=source, stage="list", reason=item.reject)
        else:
            yield from self.dataset.examples(item)

    def estimate(self, items: Sequence[Item]) -> int | None:
        """The dataset's guess."""
        return self.dataset.pictures([item for item in items if not item.reject])


def _order(item: Item) -> tuple[str, list[tuple[str, str]]]:
    return item.key, sorted(item.files.items())


def _without_doubles(items: Sequence[Item]) -> list[Item]:
    """Marks every item whose key came before; it is listed still, so that rows and rejects add up to the listing."""
    seen: set[str] = set()
    result = []
    for item in items:
        result.append(replace(item, reject="duplicate-key") if item.key in seen else item)
        seen.add(item.key)
    return result
