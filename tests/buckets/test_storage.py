"""Files at URLs, on servers of both kinds of bucket, through every fault at every operation."""

import asyncio
import errno
import logging
import os
import random
from pathlib import Path
from types import SimpleNamespace

import gcsfs.retry
import pytest

from benchmarks.faults.buckets import Bucket
from benchmarks.faults.proxy import KINDS, STATUSES, Fault, Kind, Operation
from manifests import files
from visent import storage
from visent.errors import UserError

DATA = os.urandom(3000)
MEETS: dict[str, tuple[Operation, ...]] = {
    "write": ("write", "stat"), "read": ("read", "stat"), "many": ("list", "read"), "ranges": ("read",),
    "fetch": ("read", "stat"), "exists": ("stat", "list"), "list": ("list",), "move": ("copy", "delete"),
    "remove": ("delete",),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a tenth as long between tries."""
    monkeypatch.setattr(storage, "PAUSES", tuple(pause / 20 for pause in storage.PAUSES))
    quick = SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 20))
    monkeypatch.setattr(gcsfs.retry, "asyncio", quick)


def do(what: str, folder: str) -> object:
    """Does one thing to a folder that holds `a.bin`, and returns what of it can be compared."""
    path = files.join(folder, "a.bin")
    if what == "write":
        files.write_bytes(files.join(folder, "new.bin"), DATA)
        return files.read_bytes(files.join(folder, "new.bin"))
    if what == "read":
        return files.read_bytes(path)
    if what == "many":
        return files.read_many(folder, ["a.bin", "none.bin"])
    if what == "ranges":
        return files.read_ranges(path, [(0, 10), (2990, 4000), (3000, 3010), (4000, 5000)])
    if what == "fetch":
        return files.sha256(path)
    if what == "exists":
        return files.exists(path), files.exists(files.join(folder, "none")), files.exists(folder)
    if what == "list":
        return files.list_sizes(folder), files.list_names(folder), files.list_names(files.join(folder, "none"))
    if what == "move":
        files.move(path, files.join(folder, "b.bin"))
        return files.list_sizes(folder), files.read_bytes(files.join(folder, "b.bin"))
    files.remove(path)
    files.remove(path)
    return files.list_names(folder)


def faults(operations: tuple[Operation, ...]) -> list[Fault]:
    kinds: list[Kind] = [kind for kind in KINDS if kind != "status"]
    found = [Fault(kind="status", operation=one, status=status) for one in operations for status in STATUSES]
    made = [Fault(kind=kind, operation=one, seconds=0.2) for one in operations for kind in kinds]
    return found + [fault for fault in made if fault.kind != "short" or fault.operation == "read"]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("what", MEETS)
def test_each_operation_gives_the_same_through_faults(what: str, every: bool, served: Bucket, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(DATA)
    wanted = do(what, str(tmp_path))
    chosen = [fault for fault in faults(MEETS[what]) if every or fault.kind in ("lost", "short")]
    for number, fault in enumerate([None, *chosen]):
        served.proxy.reset()
        folder = f"{served.url}/{number}"
        files.write_bytes(f"{folder}/a.bin", DATA)
        served.proxy.reset([] if fault is None else [fault])
        assert do(what, folder) == wanted, fault
        assert fault is None or served.proxy.injected, f"no request met {fault}"


def test_an_upload_in_parts_is_whole_after_faults(served: Bucket) -> None:
    """Above 5 MB gcsfs uploads resumably."""
    data = random.Random(0).randbytes(6 << 20)
    for kind in ("status", "drop", "lost", "cut"):
        served.proxy.reset([Fault(kind=kind, operation="write")])
        files.write_bytes(f"{served.url}/{kind}/big.bin", data)
        assert served.proxy.injected
        assert files.read_bytes(f"{served.url}/{kind}/big.bin") == data


@pytest.mark.slow  # Amazon's client waits by itself, between five tries
@pytest.mark.parametrize("what", ["write", "read", "many", "exists", "list", "remove"])
def test_storage_that_stays_away_is_one_line_and_soon(
    what: str, served: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAUSES", (0.01,))
    files.write_bytes(f"{served.url}/x/a.bin", DATA)
    served.proxy.reset([Fault(kind="status", status=503, most=None)])
    doing = {"remove": "remove", "write": "write"}.get(what, "read")
    with pytest.raises(UserError, match=rf"cannot {doing} {served.url}/x.*2 times in a row.*run the"):
        do(what, f"{served.url}/x")


def test_what_is_forbidden_is_not_tried_again(served: Bucket) -> None:
    files.write_bytes(f"{served.url}/x/a.bin", DATA)
    served.proxy.reset([Fault(kind="status", status=403, most=None)])
    with pytest.raises(UserError, match="cannot read") as refused:
        files.read_bytes(f"{served.url}/x/a.bin")
    assert "in a row" not in str(refused.value)
    assert sum(served.proxy.requests.values()) <= 3


@pytest.mark.slow  # Amazon's client waits by itself
def test_a_failed_upload_leaves_what_was_there(served: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PAUSES", ())
    path = f"{served.url}/x/a.bin"
    files.write_bytes(path, b"old")
    served.proxy.reset([Fault(kind="drop", operation="write", most=None)])
    with pytest.raises(UserError, match="cannot write"):
        files.write_bytes(path, DATA)
    served.proxy.reset()
    assert files.read_bytes(path) == b"old"
    assert files.list_sizes(f"{served.url}/x") == {"a.bin": 3}


def test_a_server_that_says_nothing_is_given_up(served: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "READ_SECONDS", 0.5)
    files.write_bytes(f"{served.url}/x/a.bin", DATA)
    served.proxy.reset([Fault(kind="hang", operation="read", seconds=20)])
    assert files.read_bytes(f"{served.url}/x/a.bin") == DATA


def test_what_takes_long_is_spoken_of_in_one_line_and_the_client_logs_no_tracebacks(
    google: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(logging.root.manager, "disable", 0)  # a command that ran here before may have asked for quiet
    google.proxy.reset([Fault(kind="drop", operation="stat", most=None)])
    with pytest.raises(UserError, match="in a row"):
        files.read_bytes(f"{google.url}/x/a.bin")
    said = [record.getMessage() for record in caplog.records if record.name in ("gcsfs", "visent.storage")]
    assert len(said) == len(storage.PAUSES)
    assert all("storage does not answer, trying again" in line and "\n" not in line for line in said)


def test_a_bucket_that_is_not_there_is_said(served: Bucket) -> None:
    scheme = served.url.partition("://")[0]
    with pytest.raises(UserError, match="there is no bucket or folder to put it in"):
        files.write_bytes(f"{scheme}://nothing-of-this-name/a.bin", DATA)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(f"{scheme}://nothing-of-this-name/a.bin")


def test_many_small_files_are_asked_for_at_once_and_listed_once(served: Bucket) -> None:
    for number in range(20):
        files.write_bytes(f"{served.url}/x/{number}.json", f"{number}".encode())
    served.proxy.reset()
    sizes = files.list_sizes(f"{served.url}/x")
    assert files.read_many(f"{served.url}/x", [f"{n}.json" for n in range(20)], sizes) == [b"%d" % n for n in range(20)]
    assert served.proxy.requests["read"] == 20
    assert served.proxy.requests["list"] <= 2


def test_names_that_are_patterns_elsewhere_are_names_here(served: Bucket) -> None:
    names = ["a[0].json", "b*.json", "c?.json", "d e.json", "ü.json"]
    for name in names:
        files.write_bytes(f"{served.url}/x/{name}", name.encode())
    assert files.read_many(f"{served.url}/x", names) == [name.encode() for name in names]
    assert sorted(files.list_sizes(f"{served.url}/x")) == sorted(names)


def test_folders_at_file_urls_get_whole_files_by_renaming(tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/deep"
    files.write_bytes(f"{folder}/a.bin", DATA)
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["a.bin"]
    assert files.read_bytes(f"{folder}/a.bin") == DATA
    assert files.list_sizes(folder) == {"a.bin": len(DATA)}


def test_a_full_local_disk_is_told_apart_from_the_bucket(google: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(url: str, local: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write_bytes(f"{google.url}/x/a.bin", DATA)
    monkeypatch.setattr(storage.filesystem(google.url)[0], "get_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.sha256(f"{google.url}/x/a.bin")


@pytest.mark.parametrize(
    ("url", "said"), [("nonsense://a/b", "Protocol not known: nonsense"), ("abfs://x@y/z", "Install adlfs")]
)
def test_urls_that_nothing_installed_knows_are_one_line(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        files.exists(url)
