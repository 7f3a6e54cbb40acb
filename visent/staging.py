"""Commands that work on local files take URLs: what they read is brought here first, what they write is put there last.

    @staged(reads=("images",), writes=("out",))
    def encode(images: tuple[Path, ...], out: Path) -> None: ...

The command itself sees paths only. Errors name the URLs.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from visent import storage
from visent.errors import UserError
from visent.progress import track
from visent.storage import is_url
from visent.untrusted.names import stays_below

AT_ONCE = 8  # files copied at the same time
_urls: dict[str, str] = {}  # of the copies that this process made, for what it says


def staged(*, reads: Sequence[str] = (), writes: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Makes a command take URLs for these arguments, each text or several; it gets a `Path`, or several."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            with _named(), ExitStack() as stack:
                for name in (*reads, *writes):
                    enter = functools.partial(_enter, stack, sent if name in writes else brought)
                    if isinstance(given.get(name), tuple):
                        given[name] = tuple(enter(path) for path in given[name])
                    elif given.get(name) is not None:
                        given[name] = enter(given[name])
                return command(*args, **given)

        return run

    return decorate


def _enter(stack: ExitStack, stage: Callable[[str], Any], path: Any) -> Path:
    if not is_url(path):
        return Path(path)
    local: Path = stack.enter_context(stage(str(path)))
    _urls[str(local)] = str(path)
    return local


def shown(text: object) -> str:
    """Returns a text, or a path, with URLs in place of their copies here."""
    result = str(text)
    for local in sorted(_urls, key=len, reverse=True):
        result = result.replace(local, _urls[local])
    return result


@contextmanager
def _named() -> Iterator[None]:
    """Says URLs in place of their copies."""
    try:
        yield
    except UserError as error:
        if (text := shown(error)) == str(error):
            raise
        raise UserError(text) from error


@contextmanager
def brought(url: str) -> Iterator[Path]:
    """Gives a copy of the file or folder at a URL, which is removed afterwards.

    Raises:
        UserError: nothing is there, or it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="visent-") as folder:
        local = Path(folder) / url.rstrip("/").rpartition("/")[2]
        if not bring(url, local):
            raise UserError(f"nothing at {url}: expected a file or a folder; check the URL and your access to it")
        yield local


def bring(url: str, local: Path) -> bool:
    """Copies the file or folder at a URL; tells whether something was there.

    Raises:
        UserError: it cannot be read, or not be written here.
    """
    try:
        found = storage.find(url)
        if found is None:
            return False
        copies = [(f"{url.rstrip('/')}/{name}" if name else url, local / name if name else local) for name in found]
        if bad := [name for name in found if name and not stays_below(name)]:
            raise UserError(f"{url} holds {bad[0]!r}, which is no path below a folder: rename it")
        for target in {target.parent for _, target in copies}:
            target.mkdir(parents=True, exist_ok=True)
        _each(f"fetch {url}", lambda pair: storage.fetch(pair[0], str(pair[1])), copies)
    except OSError as error:
        raise UserError(f"cannot read {url}: {error.strerror or error}; check your access to it") from error
    return True


@contextmanager
def sent(url: str) -> Iterator[Path]:
    """Gives a local path to write a file or folder to; what is there when the block ends well is put at the URL.

    Raises:
        UserError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="visent-") as folder:
        local = Path(folder) / url.rstrip("/").rpartition("/")[2]
        yield local
        send(local, url)


def send(local: Path, url: str) -> None:
    """Puts a file, or all files of a folder, at a URL.

    Raises:
        UserError: it cannot be written.
    """
    if local.is_file():
        copies = [(local, url)]
    else:
        names = sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file())
        copies = [(local / name, f"{url.rstrip('/')}/{name}") for name in names]
    try:
        _each(f"put {url}", lambda pair: storage.put(str(pair[0]), pair[1]), copies)
    except OSError as error:
        raise UserError(f"cannot write {url}: {error}; then run the same command again") from error


def _each(label: str, copy: Callable[[tuple[Any, Any]], None], copies: Sequence[tuple[Any, Any]]) -> None:
    with track(label, len(copies), "files") as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(copy, copies):
            progress.advance()


@contextmanager
def mirrored(place: str) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Gives a local folder that is kept like the one at a URL, and what puts there all that changed since.

    What is at the URL is brought first. A local place is given as it is.

    Raises:
        UserError: it cannot be read or written.
    """
    if not is_url(place):
        yield Path(place), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="visent-") as folder:
        local = Path(folder) / place.rstrip("/").rpartition("/")[2]
        _urls[str(local)] = place
        bring(place, local)
        known = _stamps(local)

        def put_changes() -> None:
            for path, stamp in (now := _stamps(local)).items():
                if known.get(path) != stamp:
                    send(path, f"{place.rstrip('/')}/{path.relative_to(local).as_posix()}")
            known.update(now)

        with _named():
            yield local, put_changes


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    found = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found.items()}
