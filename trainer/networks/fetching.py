"""Brings networks at URLs to this machine, once for all runs and processes."""

import hashlib
from pathlib import Path

from manifests import files
from tokenizer.cache import fetch_once
from tokenizer.fetch import cache_folder
from trainer.networks.onnx_card import read_card
from visent import storage
from visent.errors import UserError


def fetched(url: str) -> Path:
    """Returns the local copy of a file, of an ONNX network with what is beside it, or of a folder.

    What changed at its source is fetched again.

    Raises:
        UserError: nothing is there, or it cannot be fetched.
    """
    url = url.rstrip("/")
    try:
        found = storage.find(url)
        names = _beside(url) if found == [""] else found or []
        root = url.rpartition("/")[0] if found == [""] else url
        remote = [(name, f"{root}/{name}") for name in names]
        state = "\n".join(f"{name} {sorted(storage.info(one).items(), key=str)}" for name, one in remote)
        folder = cache_folder().with_name("networks") / hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:16]
        if remote:
            fetch_once(remote, folder)
    except OSError as error:
        raise UserError(
            f"cannot fetch the network {url}: {error}; check the URL, the network and your access to it, then run the "
            "same command again, or fetch the file yourself and give its path"
        ) from error
    if not remote:
        raise UserError(
            f"nothing at {url}, or nothing answers there: expected a file of weights, or the folder of a SavedModel; "
            "check the URL and the network, or fetch the file yourself and give its path"
        )
    return folder / url.rpartition("/")[2] if found == [""] else folder


def _beside(url: str) -> list[str]:
    """Returns the names of a file and of those that it is read with: an ONNX network's card, numbers and means."""
    folder, _, name = url.rpartition("/")
    stem, dot, kind = name.rpartition(".")
    if kind not in ("onnx", "toml"):
        return [name]
    with files.local_copy(f"{folder}/{stem}{dot}toml") as local:
        card = read_card(Path(local))
    wanted = [name, f"{stem}{dot}toml", card.file, *([card.mean_file] if card.mean_file else [])]
    numbers = f"{card.file}.data"  # of networks over 2 GB, and as torch exports them
    return sorted({*wanted, *([numbers] if storage.find(f"{folder}/{numbers}") == [""] else [])})
