"""The whole job through Beam: datasets, reruns, views, failures. Each test that starts Beam costs about a second."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_media import picture_bytes, write_pictures

from manifests.dataset import has_facts, load_facts
from manifests.shards import read_codes
from pipelines.job import Job
from pipelines.runners.options import beam_options, runs_here
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize, tokenize_views
from pipelines.verify import report, verify_dataset
from visent.errors import UserError


def job(tmp_path: Path, tiny: str, **options: Any) -> Job:
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=3)
    return Job(**{"out": str(tmp_path / "corpus" / "d"), "name": "d", "tokenizer": tiny, "source": source} | options)


def codes_by_key(folder: str) -> dict[str, bytes]:
    from manifests.shards import read_rows

    facts = load_facts(folder)
    rows = (row for shard in facts.shards for row in read_rows(f"{folder}/{shard.file}", facts.schema) if not row.view)
    return {row.key: b"".join(codes.tobytes() for codes in row.codes.values()) for row in rows}


def test_a_folder_becomes_a_dataset_and_a_rerun_does_nothing(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 10)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    made = job(tmp_path, tiny, annotate=("edge",), holdout=0.2)
    summary = tokenize(made, max_reject_fraction=0.1)
    facts = load_facts(made.out)
    assert (summary.rows, summary.rejects, summary.pictures) == (10, {"empty": 1}, 20)
    assert facts.examples("train") + facts.examples("val") == 10
    assert facts.examples("val") > 0
    assert not verify_dataset(made.out).problems
    before = {path.name: path.stat().st_mtime_ns for path in Path(made.out).iterdir()}
    again = tokenize(made, max_reject_fraction=0.1)
    assert (again.units, again.units_kept, again.pictures) == (summary.units, summary.units, 0)
    assert {path.name: path.stat().st_mtime_ns for path in Path(made.out).iterdir()} == before


def test_both_formats_hold_the_same_codes(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 4)
    for format in ("parquet", "arrayrecord"):
        tokenize(job(tmp_path, tiny, format=format, out=str(tmp_path / format)))
        assert not verify_dataset(str(tmp_path / format)).problems
    assert codes_by_key(str(tmp_path / "parquet")) == codes_by_key(str(tmp_path / "arrayrecord"))


def test_too_many_rejects_stop_the_job_and_a_higher_limit_keeps_its_shards(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    made = job(tmp_path, tiny)
    with pytest.raises(UserError, match=r"1 of 4 examples were rejected \(1 empty\), over --max-reject-fraction 0.1"):
        tokenize(made, max_reject_fraction=0.1)
    assert not has_facts(made.out)
    summary = tokenize(made, max_reject_fraction=0.3)
    assert (summary.units_kept, summary.pictures) == (2, 0)
    assert has_facts(made.out)


def test_a_dataset_without_rows_is_refused_at_any_limit(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match="no example of d could be read: 1 empty"):
        tokenize(job(tmp_path, tiny), max_reject_fraction=1.0)


def test_missing_views_are_added_once_and_extended_later(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 5)
    made = job(tmp_path, tiny, annotate=("edge",))
    tokenize(made)
    originals = codes_by_key(made.out)
    assert tokenize_views(made.out, 3).rows == 10
    assert load_facts(made.out).views() == 3
    assert tokenize_views(made.out, 3).pictures == 0
    assert tokenize_views(made.out, 4).pictures == 10
    facts = load_facts(made.out)
    assert facts.views() == 4
    assert {(shard.first_view, shard.last_view) for shard in facts.shards} == {(0, 0), (1, 2), (3, 3)}
    assert not verify_dataset(made.out).problems
    assert codes_by_key(made.out) == originals
    assert tokenize(made).pictures == 0
    assert load_facts(made.out) == facts


def test_views_of_a_changed_source_are_refused(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    made = job(tmp_path, tiny)
    tokenize(made)
    (tmp_path / "in" / "001.png").unlink()
    with pytest.raises(UserError, match=r"have changed since it was tokenized:\n  1 item is gone: 001"):
        tokenize_views(made.out, 2)


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading"])
def test_an_error_in_a_worker_reaches_the_user_as_one_line(
    tmp_path: Path, tiny: str, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "in", 2)
    # The weights vanish between the listing and the work: the worker is the first to notice.
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(tiny).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    made = job(tmp_path, str(copy))
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="is incomplete") as failure:
        tokenize(made, [f"--direct_running_mode={mode}"])
    assert "\n" not in str(failure.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not has_facts(made.out)


def test_beam_options_are_checked_before_any_work() -> None:
    with pytest.raises(UserError, match="did you mean 'direct_num_workers'"):
        beam_options(["--direct_num_worker=2"])
    with pytest.raises(UserError, match="invalid choice: 'threads'"):
        beam_options(["--direct_running_mode=threads"])
    assert runs_here(beam_options([]))
    assert not runs_here(beam_options(["--direct_running_mode=multi_processing"]))
    assert not runs_here(beam_options(["--runner=DataflowRunner"]))


def test_a_second_process_on_the_same_dataset_is_refused(tmp_path: Path, tiny: str) -> None:
    import fcntl
    import os

    write_pictures(tmp_path / "in", 1)
    made = job(tmp_path, tiny)
    Path(made.out).mkdir(parents=True)
    handle = os.open(made.out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another `visent tokenize`"):
        tokenize(made)
    os.close(handle)


def damage_code(folder: Path) -> None:
    path = next(folder.glob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def change_receipt(folder: Path) -> None:
    path = next(folder.glob("train*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": 99}))


def remove_shard(folder: Path) -> None:
    next(folder.glob("*.parquet")).unlink()


def add_shard(folder: Path) -> None:
    (folder / "train-00007-of-00009.parquet").write_bytes(b"x")


def wrong_facts(folder: Path) -> None:
    path = folder / "dataset.json"
    facts = json.loads(path.read_text())
    facts["shards"][0] |= {"rows": 99, "rows_per_view": [99]}
    path.write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_pictures(folder / "in", 4)
    made = job(folder, tiny)
    tokenize(made)
    return Path(made.out)


@pytest.mark.parametrize(
    "fault", [damage_code, change_receipt, remove_shard, add_shard, wrong_facts], ids=lambda f: f.__name__
)
def test_verify_finds_the_fault(tmp_path: Path, finished: Path, fault: Any) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    assert not verify_dataset(str(folder)).problems
    fault(folder)
    assert verify_dataset(str(folder)).problems


def test_stored_codes_are_those_of_the_tokenizer(finished: Path, tiny: str) -> None:
    from pipelines.encoder import shared_encoder
    from tokenizer.images import decode_image, prepare

    facts = load_facts(str(finished))
    first, _ = read_codes(str(finished / facts.shards[0].file), facts.schema, "image")
    square = prepare(decode_image(picture_bytes(0)), "crop", 32)
    assert np.array_equal(first[0], shared_encoder(tiny).encode(square[None])[0])


def test_receipts_say_what_made_the_codes_and_verify_tells_of_several(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "in", 4)
    made = job(tmp_path, tiny)
    tokenize(made)
    folder = Path(made.out)
    facts = json.loads((folder / "dataset.json").read_text())
    assert len(facts["shards"]) > 1
    assert all(set(shard["made_with"]) == {"jax", "device"} for shard in facts["shards"])
    assert report([verify_dataset(str(folder))])
    assert "environments" not in capsys.readouterr().out
    shard = facts["shards"][0]
    shard["made_with"]["jax"] = "0.0.1"
    (folder / "dataset.json").write_text(json.dumps(facts))
    (folder / shard["file"].replace(".parquet", ".json")).write_text(json.dumps(shard))
    assert report([verify_dataset(str(folder))])
    assert "made in 2 environments" in capsys.readouterr().out


def test_precision_and_preset_of_a_job_are_in_its_fingerprint_and_its_views(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 4)
    plain = job(tmp_path, tiny)
    changed = dataclasses.replace(plain, out=str(tmp_path / "changed"), preset="squash", precision="bfloat16")
    tokenize(plain)
    tokenize(changed)
    cards = [load_facts(made.out).schema.card for made in (plain, changed)]
    assert [(card.preset, card.precision) for card in cards] == [("crop", "float32"), ("squash", "bfloat16")]
    assert cards[0].fingerprint != cards[1].fingerprint
    tokenize_views(changed.out, 2)
    assert load_facts(changed.out).views() == 2
    assert not verify_dataset(changed.out).problems
