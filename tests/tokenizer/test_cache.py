"""A tokenizer at a URL on one machine: fetched by one process for all, whole or not at all, and checked."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tokenizer import cache
from tokenizer.cache import fetch_once
from tokenizer.fetch import cache_folder, locate
from tokenizer.load import load_card
from tokenizer.testing import tiny_tokenizer_dir
from visent import storage

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "pytorch_model.bin"


class Server(ThreadingHTTPServer):
    """Serves a folder; the next `short` downloads of the weights end early."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.short = folder, 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(arguments[2].folder))

    def do_GET(self) -> None:
        if self.server.short and self.path.endswith(WEIGHTS):
            self.server.short -= 1
            size = (self.server.folder / WEIGHTS).stat().st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(b"half")
            return
        time.sleep(0.2)
        with suppress(ConnectionError):  # some ask whether it is there and leave
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(bytes(range(256)) * 1000)
    (folder / "config.json").write_text("{}")
    with Server(folder) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def test_of_many_processes_one_fetches_and_all_get_the_same(server: Server) -> None:
    script = "import sys; from tokenizer.fetch import locate; print(locate(sys.argv[1]))"
    command = [sys.executable, "-c", script, f"{server.url}/{WEIGHTS}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    (path,) = {out.strip() for out, _ in said}
    assert Path(path).read_bytes() == (server.folder / WEIGHTS).read_bytes()
    assert sum("fetching: 2/2 files" in progress for _, progress in said) == 1


def test_a_download_that_breaks_off_is_repeated_and_never_taken_for_whole(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.01))
    files = [(WEIGHTS, f"{server.url}/{WEIGHTS}")]
    server.short = 2
    fetch_once(files, tmp_path / "a")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (server.folder / WEIGHTS).read_bytes()
    server.short = 3
    with pytest.raises(Exception, match="payload is not completed"):
        fetch_once(files, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("damage", ["changed", "cut", "removed", "no record"])
def test_what_was_damaged_in_the_cache_is_fetched_again(tmp_path: Path, damage: str) -> None:
    own = tiny_tokenizer_dir(tmp_path)
    url = f"file://{own}"
    weights = locate(url) / "model.safetensors"
    content = weights.read_bytes()
    if damage == "changed":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        weights.write_bytes(content[:100])
    elif damage == "removed":
        weights.unlink()
    else:
        next(cache_folder().glob("*.json")).unlink()
    cache._sound.clear()  # as a new process
    assert load_card(url).fingerprint == load_card(own).fingerprint
    assert (locate(url) / "model.safetensors").read_bytes() == content


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/a.bin", b"whole")
    folder = tmp_path / "cache" / "t"
    left = folder.with_name("t.1.partial")
    left.mkdir(parents=True)
    (left / "a.bin").write_bytes(b"wh")
    fetch_once([("a.bin", "memory://bucket/a.bin")], folder)
    assert (folder / "a.bin").read_bytes() == b"whole"
    assert not left.exists()


def test_bytes_that_differ_from_the_md5_of_the_store_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAUSES", ())
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/a.bin", b"whole")
    told = system.info("/bucket/a.bin") | {"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}
    monkeypatch.setattr(type(system), "info", lambda *_, **__: told)
    with pytest.raises(OSError, match="other bytes than its md5"):
        fetch_once([("a.bin", "memory://bucket/a.bin")], tmp_path / "t")
    assert not (tmp_path / "t").exists()
