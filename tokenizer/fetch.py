"""Finds a tokenizer by name, path, URL or Hugging Face id, and brings it to this machine where it is elsewhere."""

import hashlib
import os
import re
from pathlib import Path

from tokenizer.cache import fetch_once
from tokenizer.card import CARD_FILE, PRETRAINED
from visent import storage
from visent.errors import UserError

REPO_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?(/[\w./-]+)?")  # owner/repository@revision/part


def locate(name_or_path: str | Path) -> Path:
    """Returns the local file or folder of a tokenizer; a path that exists goes before an id that looks like it.

    Raises:
        UserError: there is nothing of that name, or it cannot be fetched.
    """
    name = str(name_or_path)
    shipped = PRETRAINED / name
    if "/" not in name and (shipped / CARD_FILE).is_file():
        return shipped
    if Path(name).exists():
        return Path(name)
    if "://" in name:
        return _from_url(name)
    if REPO_ID.fullmatch(name) and not name.startswith("."):
        return _from_hub(name)
    known = ", ".join(sorted(p.parent.name for p in PRETRAINED.glob(f"*/{CARD_FILE}")))
    raise UserError(
        f"no tokenizer at {name!r}: expected a name ({known}), a folder with {CARD_FILE}, a checkpoint, a URL such as "
        "gs://bucket/vqvae, or a Hugging Face id such as amused/amused-256 (amused/amused-256@main for a revision)"
    )


def cache_folder() -> Path:
    """Returns where fetched tokenizers are kept: below VISENT_CACHE, else `~/.cache/visent`."""
    root = os.environ.get("VISENT_CACHE") or Path.home() / ".cache" / "visent"
    return Path(root).expanduser() / "tokenizers"


def _from_url(url: str) -> Path:
    """Copies a file, or the files of a tokenizer in a folder; what changed at its source is copied again."""
    url = url.rstrip("/")
    try:
        found = storage.find(url, depth=2) or []
        files = _of_file(url) if found == [""] else [(name, f"{url}/{name}") for name in found if _wanted(name)]
        state = "\n".join(f"{name} {sorted(storage.info(remote).items(), key=str)}" for name, remote in files)
        folder = cache_folder() / hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:16]
        if files:
            fetch_once(files, folder)
    except OSError as error:
        raise UserError(
            f"cannot fetch the tokenizer {url}: {error}; check the URL, the network and your access to it, then run "
            "the same command again"
        ) from error
    if not files:
        raise UserError(f"nothing at {url}: expected a checkpoint, or a folder with one of {', '.join(_files())}")
    return folder / files[0][0] if found == [""] else folder


def _of_file(url: str) -> list[tuple[str, str]]:
    """Returns (name here, URL) of a checkpoint, and of the configuration beside it."""
    config = f"{url.rpartition('/')[0]}/config.json"
    beside = [config] if url.endswith((".bin", ".safetensors")) and storage.find(config) == [""] else []
    return [(one.rpartition("/")[2], one) for one in (url, *beside)]


def _wanted(name: str) -> bool:
    from tokenizer.checkpoints.files import SUBFOLDERS, SUFFIXES

    folder, _, file = name.rpartition("/")
    return folder in ("", *SUBFOLDERS) and (file in _files() or file.endswith(SUFFIXES))


def _files() -> tuple[str, ...]:
    """The names that files of a tokenizer usually have."""
    from tokenizer.checkpoints.files import CONFIG_FILE, WEIGHTS_FILES

    return (CARD_FILE, CONFIG_FILE, *WEIGHTS_FILES)


def _from_hub(name: str) -> Path:
    """Returns the snapshot of a repository in Hugging Face's own cache; only the files of a tokenizer are fetched.

    Without `@revision` that is the newest; a dataset's card tells by its sha256 whether two are the same.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise UserError(
            f"no file or folder {name!r}; to fetch it as a Hugging Face id install huggingface_hub: "
            "pip install 'visent[hub]'"
        ) from error
    from tokenizer.checkpoints.files import SUBFOLDERS

    owner, repo, *inside = name.split("/")
    repo, _, revision = repo.partition("@")
    below = "/".join(inside)
    places = [*([below] if below else []), *("/".join(filter(None, (below, sub))) for sub in SUBFOLDERS)]
    patterns = [f"{place}/{file}" for place in places for file in _files()] + ([below] if below else list(_files()))
    try:
        snapshot = Path(snapshot_download(f"{owner}/{repo}", revision=revision or None, allow_patterns=patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        named = f" --revision {revision}" if revision else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"no file or folder {name!r}, and it cannot be fetched as a Hugging Face id: {type(error).__name__}: "
            f"{reason} Expected a repository that is cached or reachable (HF_HUB_OFFLINE is "
            f"{os.environ.get('HF_HUB_OFFLINE', 'not set')}); fetch it with `hf download {owner}/{repo}{named}` where "
            "there is a network, or give a local path"
        ) from error
    place = snapshot / below
    if not place.exists():
        raise UserError(f"the Hugging Face repository {owner}/{repo} holds no {below}; look at its list of files")
    return place
