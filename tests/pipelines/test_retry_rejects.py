"""Rejects tried again: the dataset ends as if nothing had ever failed."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_media import picture_bytes, write_pictures, write_video

from manifests import files
from manifests.dataset import load_facts
from manifests.shards import read_rows
from pipelines.encoder import pictures_encoded
from pipelines.job import Job
from pipelines.resuming import adopt
from pipelines.resuming.retry import retry_rejects
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.pairs import PairsSource
from pipelines.sources.webdataset import Webdataset
from pipelines.tokenize import tokenize, tokenize_views
from pipelines.verify import verify_dataset
from visent.cli import visent
from visent.errors import UserError

Folder = dict[str, bytes]


def job(tmp_path: Path, tiny: str, name: str = "d", **options: Any) -> Job:
    source = options.pop("source", None) or FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=3)
    return Job(out=str(tmp_path / name / "d"), name="d", tokenizer=tiny, source=source, **options)


def contents(folder: str | Path) -> Folder:
    """All files of a dataset but the workers' logs."""
    found = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if not name.startswith("log/")}


def stamps(folder: str | Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("train-*")}


def broken(tmp_path: Path, count: int = 10, at: Iterable[int] = (1, 4, 5)) -> Callable[[], None]:
    """Writes pictures, some of them empty; the result mends them."""
    write_pictures(tmp_path / "in", count)
    for number in at:
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(b"")

    def mend() -> None:
        for number in at:
            (tmp_path / "in" / f"{number:03d}.png").write_bytes(picture_bytes(number))

    return mend


@pytest.mark.parametrize("format", ["parquet", pytest.param("arrayrecord", marks=pytest.mark.slow)])
def test_mended_files_give_the_bytes_of_a_run_without_faults(tmp_path: Path, tiny: str, format: str) -> None:
    mend = broken(tmp_path)
    made = job(tmp_path, tiny, annotate=("edge",), format=format)
    tokenize(made, max_reject_fraction=0.5)
    tokenize_views(made.out, 3)
    before = stamps(made.out)
    mend()
    summary = retry_rejects(made.out)
    assert (summary.rows, summary.rejects, summary.note) == (10, {}, "3 of 3 rejects are rows now")
    assert summary.pictures == 3 * 2 * 3  # rejects, roles, views: nothing that is there was encoded again
    whole = job(tmp_path, tiny, "whole", annotate=("edge",), format=format)
    tokenize(whole)
    tokenize_views(whole.out, 3)
    assert contents(made.out) == contents(whole.out)
    unchanged = {name for name, stamp in stamps(made.out).items() if before.get(name) == stamp}
    assert {name.split(".")[0] for name in unchanged} == {"train-00002-of-00004", "train-00003-of-00004"}
    assert not verify_dataset(made.out).problems


def test_only_the_reasons_asked_for_are_tried(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 6)
    (tmp_path / "in" / "001.png").write_bytes(b"")
    (tmp_path / "in" / "002.png").write_bytes(picture_bytes(2)[:200])
    (tmp_path / "in" / "004.png").write_bytes(b"no picture")
    made = job(tmp_path, tiny)
    tokenize(made, max_reject_fraction=0.9)
    for number in (1, 2, 4):
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(picture_bytes(number))
    with pytest.raises(UserError, match="did you mean 'truncated'"):
        retry_rejects(made.out, ["truncatd"])
    assert retry_rejects(made.out, ["truncated"]).rejects == {"empty": 1, "not-an-image": 1}
    assert not verify_dataset(made.out).problems
    assert retry_rejects(made.out, ["read"]).rejects == {"empty": 1, "not-an-image": 1}
    assert retry_rejects(made.out, ["decode"]).rejects == {}
    assert retry_rejects(made.out).note == "nothing is to be tried again"
    tokenize(job(tmp_path, tiny, "whole"))
    assert contents(made.out) == contents(tmp_path / "whole" / "d")


def test_what_still_fails_leaves_the_dataset_as_it_was(tmp_path: Path, tiny: str) -> None:
    broken(tmp_path)
    made = job(tmp_path, tiny)
    tokenize(made, max_reject_fraction=0.5)
    before, times = contents(made.out), stamps(made.out)
    assert retry_rejects(made.out).note == "0 of 3 rejects are rows now"
    assert contents(made.out) == before
    assert stamps(made.out) == times


def test_a_missing_half_of_a_pair_that_has_come_makes_a_row(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "image", 4)
    write_pictures(tmp_path / "edge", 4)
    (tmp_path / "edge" / "002.png").unlink()
    paths = {role: str(tmp_path / role) for role in ("image", "edge")}
    made = job(tmp_path, tiny, source=PairsSource(paths=paths, items_per_unit=9))
    tokenize(made, max_reject_fraction=0.5)
    (tmp_path / "edge" / "002.png").write_bytes(picture_bytes(2))
    with pytest.raises(UserError, match=r"1 item is changed: 002\n.*--retry-rejects"):
        tokenize(made)
    retry_rejects(made.out)
    tokenize(job(tmp_path, tiny, "whole", source=PairsSource(paths=paths, items_per_unit=9)))
    assert contents(made.out) == contents(tmp_path / "whole" / "d")
    assert tokenize(made).pictures == 0


def test_other_files_that_changed_are_refused(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "image", 3)
    write_pictures(tmp_path / "edge", 3)
    (tmp_path / "edge" / "002.png").unlink()
    paths = {role: str(tmp_path / role) for role in ("image", "edge")}
    made = job(tmp_path, tiny, source=PairsSource(paths=paths, items_per_unit=9))
    tokenize(made, max_reject_fraction=0.5)
    (tmp_path / "edge" / "001.png").rename(tmp_path / "edge" / "001.webp")
    (tmp_path / "edge" / "002.png").write_bytes(picture_bytes(2))
    with pytest.raises(UserError, match="1 item is changed: 001"):
        retry_rejects(made.out)


def write_tar(path: Path, pictures: dict[str, bytes]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in pictures.items():
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def samples(count: int, bad: Iterable[int] = ()) -> dict[str, bytes]:
    return {f"{number:03d}": b"no picture" if number in bad else picture_bytes(number) for number in range(count)}


def tars(tmp_path: Path) -> DatasetSource:
    return DatasetSource(name="webdataset", items_per_unit=2, dataset=Webdataset(root=str(tmp_path / "tars")))


def test_a_tar_that_was_cut_and_is_whole_again_is_read_anew(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "tars").mkdir()
    for number in range(4):
        write_tar(tmp_path / "tars" / f"{number}.tar", samples(6, bad=[2] if number == 3 else []))
    whole = (tmp_path / "tars" / "1.tar").read_bytes()
    (tmp_path / "tars" / "1.tar").write_bytes(whole[: len(whole) // 2])
    made = job(tmp_path, tiny, source=tars(tmp_path))
    tokenize(made, max_reject_fraction=0.5)
    assert len(load_facts(made.out).rejects) == 2
    (tmp_path / "tars" / "1.tar").write_bytes(whole)
    before = pictures_encoded()
    summary = retry_rejects(made.out)
    assert summary.rejects == {"not-an-image": 1}
    assert pictures_encoded() - before == 6  # of the tar that is another, not of those beside it
    tokenize(job(tmp_path, tiny, "whole", source=tars(tmp_path)), max_reject_fraction=0.5)
    assert contents(made.out) == contents(tmp_path / "whole" / "d")


def test_of_a_tar_that_is_the_same_only_what_failed_is_decoded(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "tars").mkdir()
    good = samples(8)
    failed = {"003": b"?" * len(good["003"]), "005": b"?" * len(good["005"])}  # as if the disk had failed
    write_tar(tmp_path / "tars" / "0.tar", good | failed)
    made = job(tmp_path, tiny, source=tars(tmp_path))
    tokenize(made, max_reject_fraction=0.5)
    write_tar(tmp_path / "tars" / "0.tar", good | {"005": failed["005"]})
    before = pictures_encoded()
    assert retry_rejects(made.out).rejects == {"not-an-image": 1}
    assert pictures_encoded() - before == 1
    write_tar(tmp_path / "tars" / "0.tar", good)
    assert retry_rejects(made.out).rejects == {}
    tokenize(job(tmp_path, tiny, "whole", source=tars(tmp_path)))
    assert contents(made.out) == contents(tmp_path / "whole" / "d")


def test_a_tar_that_gives_less_than_it_gave_loses_no_row(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "0.tar", samples(6, bad=[1]))
    made = job(tmp_path, tiny, source=tars(tmp_path))
    tokenize(made, max_reject_fraction=0.5)
    before = contents(made.out)
    fewer = samples(6) | {"004": b"", "001": b"no picture"}
    write_tar(tmp_path / "tars" / "0.tar", {name: data for name, data in fewer.items() if name != "005"})
    size = len(samples(6, bad=[1])) and (tmp_path / "tars" / "0.tar").stat().st_size
    wanted = json.loads((Path(made.out) / "train-00000-of-00001.json").read_text())["rows"]
    grown = max(0, tar_size(made) - size)
    with (tmp_path / "tars" / "0.tar").open("ab") as file:
        file.write(bytes(grown))
    assert retry_rejects(made.out).rows == wanted
    assert contents(made.out) == before


def tar_size(made: Job) -> int:
    from pipelines.resuming.listing import all_units
    from pipelines.resuming.settle import begun_config

    (unit,) = all_units(made.out, begun_config(made.out) or {})
    return unit.items[0].size


def test_clips_of_a_video_that_came_back_stand_in_their_order(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    whole = write_video(tmp_path / "in" / "001v.mp4").read_bytes()
    (tmp_path / "in" / "001v.mp4").write_bytes(whole[:100])
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=9, video_stills=2.0)
    made = job(tmp_path, tiny, source=source)
    tokenize(made, max_reject_fraction=0.5)
    (tmp_path / "in" / "001v.mp4").write_bytes(whole)
    assert retry_rejects(made.out).rows == 2 + 4
    facts = load_facts(made.out)
    keys = [row.key for row in read_rows(f"{made.out}/{facts.shards[0].file}", facts.schema)]
    assert keys == ["000", "001", *(f"001v#{number:06d}" for number in range(4))]
    tokenize(job(tmp_path, tiny, "whole", source=source))
    assert contents(made.out) == contents(tmp_path / "whole" / "d")


def test_an_unfinished_dataset_is_finished_once_few_enough_are_left(tmp_path: Path, tiny: str) -> None:
    mend = broken(tmp_path)
    made = job(tmp_path, tiny)
    with pytest.raises(UserError, match="--retry-rejects"):
        tokenize(made, max_reject_fraction=0.1)
    with pytest.raises(UserError, match="3 of 10 examples were rejected"):
        retry_rejects(made.out, max_reject_fraction=0.1)
    mend()
    assert retry_rejects(made.out, max_reject_fraction=0.1).rows == 10
    tokenize(job(tmp_path, tiny, "whole"))
    assert contents(made.out) == contents(tmp_path / "whole" / "d")


class Killed(BaseException):
    """Stands for a process that ends at once: nothing in the code may handle it."""


def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Lets the process die before the write, move or removal numbered `after`; returns a counter of them."""
    done = [0]

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def act_or_die(*arguments: Any) -> Any:
            if done[0] == after:
                raise Killed
            done[0] += 1
            return act(*arguments)

        return act_or_die

    for name in ("write_json", "move", "remove"):
        monkeypatch.setattr(files, name, counted(getattr(files, name)))
    return done


def sound(folder: Path) -> bool:
    """Says whether every receipt that is there is its shard's, and facts only lie beside what they say."""
    receipts = [path for path in folder.glob("train-*.json") if not path.name.endswith(".rejects.json")]
    for path in receipts:
        info = json.loads(path.read_text())
        if files.sha256(folder / info["file"]) != info["sha256"]:
            return False
    return not (folder / "dataset.json").exists() or not verify_dataset(str(folder)).problems


@pytest.mark.slow
def test_a_kill_at_any_moment_of_putting_shards_in_place_is_made_good_by_the_next_command(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mended item is another in the listing, so lists and configuration are put in place, too."""
    write_pictures(tmp_path / "image", 7)
    write_pictures(tmp_path / "edge", 7)
    (tmp_path / "edge" / "002.png").unlink()
    (tmp_path / "image" / "005.png").write_bytes(b"")
    paths = {role: str(tmp_path / role) for role in ("image", "edge")}
    made = job(tmp_path, tiny, source=PairsSource(paths=paths, items_per_unit=3))
    tokenize(made, max_reject_fraction=0.5)
    tokenize_views(made.out, 2)
    for role, number in (("edge", 2), ("image", 5)):
        (tmp_path / role / f"{number:03d}.png").write_bytes(picture_bytes(number))
    whole = job(tmp_path, tiny, "whole", source=PairsSource(paths=paths, items_per_unit=3))
    tokenize(whole)
    tokenize_views(whole.out, 2)

    def stop(folder: str) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(adopt, "finish_retry", stop)
        with pytest.raises(Killed):
            retry_rejects(made.out)
    ready = Path(made.out)
    assert sound(ready)
    steps = 0
    while True:
        folder = tmp_path / f"killed-{steps}"
        shutil.copytree(ready, folder)
        with monkeypatch.context() as patched:
            done = dying(patched, steps)
            try:
                adopt.finish_retry(str(folder))
            except Killed:
                pass
            else:
                break
        assert done == [steps]
        assert sound(folder)
        adopt.finish_retry(str(folder))
        assert contents(folder) == contents(whole.out), f"killed before step {steps}"
        shutil.rmtree(folder)
        steps += 1
    assert steps > 20
    tokenize(made)
    assert contents(made.out) == contents(whole.out)


def test_a_retry_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = broken(tmp_path, 12, at=(1, 4, 7))
    made = job(tmp_path, tiny)
    tokenize(made, max_reject_fraction=0.5)
    before = contents(made.out)
    mend()
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.resuming.retry.adopt", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            retry_rejects(made.out)
    assert {name: data for name, data in contents(made.out).items() if not name.startswith("retry/")} == before
    assert not verify_dataset(made.out).problems
    staged = Path(made.out) / "retry"
    (staged / "train-00001-of-00004.json").unlink()  # as if it had been stopped before its second shard
    encoded = pictures_encoded()
    assert retry_rejects(made.out).rows == 12
    assert pictures_encoded() - encoded == 1
    tokenize(job(tmp_path, tiny, "whole"))
    assert contents(made.out) == contents(tmp_path / "whole" / "d")


def test_the_command_names_the_dataset_or_its_corpus(tmp_path: Path, tiny: str) -> None:
    mend = broken(tmp_path)
    made = job(tmp_path, tiny)
    tokenize(made, max_reject_fraction=0.5)
    mend()
    done = CliRunner().invoke(visent, ["tokenize", "--retry-rejects", str(Path(made.out).parent), "--reason", "empty"])
    assert done.exit_code == 0, done.output
    assert "3 of 3 rejects are rows now" in done.output
    nothing = CliRunner().invoke(visent, ["tokenize", "--retry-rejects", str(tmp_path / "in")])
    assert isinstance(nothing.exception, UserError)
    assert "no dataset at" in str(nothing.exception)
