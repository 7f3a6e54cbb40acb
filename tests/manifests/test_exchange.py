"""Export and import: other projects' formats, read back by readers written from those formats' descriptions."""

import base64
import json
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from manifests import files
from manifests.corpora import compare_datasets
from manifests.corpus import Corpus
from manifests.dataset import load_facts
from manifests.exchange.commands import export, import_
from manifests.lineage import Reads, examples_of
from manifests.lock import Lock, load_lock, resolve, write_lock
from manifests.shards import read_rows
from manifests.testing import TINY_CARD, write_random_dataset
from visent.errors import UserError

TEXT = """\
version = 1
[datasets]
pairs = { path = "pairs", views = 2 }
clips = "clips"
[tasks.depth]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "depth"]
[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["frames"]
[stages.short]
context = 32
share = { depth = 1 }
[stages.long]
context = 96
share = { depth = 0.7, clips = 0.3 }
"""
SENTENCES = 50


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    folder = tmp_path_factory.mktemp("corpus")
    write_random_dataset(
        str(folder / "pairs"), {"image": "still", "depth": "still"}, examples={"train": 21, "val": 5}, views=2
    )
    write_random_dataset(str(folder / "clips"), {"frames": "clip"}, examples={"train": 9, "val": 3}, frames=(6, 8),
                         format="arrayrecord")  # fmt: skip
    (folder / "manifest.toml").write_text(TEXT)
    write_lock(str(folder / "manifest.lock.json"), resolve(str(folder / "manifest.toml")))
    return load_lock(str(folder / "manifest.lock.json"))


def put(lock: Lock, target: str, out: Path, *options: str) -> Result:
    given = [f"{lock.base}/manifest.lock.json", "--to", target, "--out", str(out), *options]
    return CliRunner().invoke(export, given)


def take(*arguments: object) -> Result:
    return CliRunner().invoke(import_, [str(argument) for argument in arguments])


def expected(lock: Lock, stage: str, first: int = 0, count: int = SENTENCES, split: str = "train") -> np.ndarray:
    return Corpus(lock, split=split).sentences(stage, np.arange(first, first + count), 5)[0]


OPTIONS = ("--stage", "long", "--sentences", f"{SENTENCES}", "--seed", "5")


def read_lvm(path: Path) -> list[list[int]]:
    """As EasyLM's TextProcessor reads a field `{tokens}`, without numpy: base64 of little-endian 32 bit integers."""
    sentences = []
    for line in path.read_text().split("\n"):
        if line:
            raw = base64.b64decode(json.loads(line)["tokens"])
            sentences.append(list(struct.unpack(f"<{len(raw) // 4}i", raw)))
    return sentences


class ReadDelvm:
    """As InternLM's JsonlDataset reads: meta's offsets, then one line of JSON from a memory map."""

    def __init__(self, path: Path) -> None:
        with Path(f"{path}.meta").open("rb") as file:
            meta = np.load(file)
        self.offsets, self.lengths = meta[:, 0], meta[:, -1]
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, number: int) -> list[int]:
        self._map.seek(int(self.offsets[number]))
        tokens: list[int] = json.loads(self._map.readline().decode("utf-8"))["tokens"]
        assert len(tokens) == self.lengths[number]
        return tokens


def test_lvms_reader_gets_the_sentences(lock: Lock, tmp_path: Path) -> None:
    assert put(lock, "lvm", tmp_path / "c.jsonl", *OPTIONS).exit_code == 0
    assert read_lvm(tmp_path / "c.jsonl") == expected(lock, "long").tolist()
    line = (tmp_path / "c.jsonl").read_text().split("\n")[0]
    assert line == json.dumps({"tokens": base64.b64encode(expected(lock, "long")[0].astype("i4").tobytes()).decode()})


def test_internlms_reader_gets_the_sentences_in_any_order(lock: Lock, tmp_path: Path) -> None:
    assert put(lock, "delvm", tmp_path / "train.bin", *OPTIONS).exit_code == 0
    read, codes = ReadDelvm(tmp_path / "train.bin"), expected(lock, "long").tolist()
    assert len(read) == SENTENCES
    for number in np.random.default_rng(0).permutation(SENTENCES):
        assert read[number] == codes[number]
    meta, offset = [], 0
    for line in (tmp_path / "train.bin").read_bytes().splitlines(keepends=True):
        meta.append((offset, 96))
        offset += len(line)
    np.save(tmp_path / "own.npy", np.array(meta, dtype=np.int64))  # as img_to_token.py of DeLVM writes it
    assert (tmp_path / "train.bin.meta").read_bytes() == (tmp_path / "own.npy").read_bytes()


@pytest.mark.parametrize(("kind", "name"), [("lvm", "c.jsonl"), ("delvm", "train.bin")])
@pytest.mark.parametrize("format", ["parquet", "arrayrecord"])
def test_sentences_come_back_as_clips_exactly(lock: Lock, tmp_path: Path, kind: str, name: str, format: str) -> None:
    put(lock, kind, tmp_path / name, *OPTIONS)
    options = ["--from", kind, "--tokenizer-card", f"{lock.base}/pairs", "--format", format]
    taken = take(tmp_path / name, "--out", tmp_path / "back", *options, "--sentences-per-shard", 20)
    assert taken.exit_code == 0, taken.output
    facts = load_facts(str(tmp_path / "back"))
    assert facts.schema.roles == {"frames": "clip"}
    assert [shard.rows for shard in facts.shards] == [20, 20, 10]
    rows = [row for shard in facts.shards for row in read_rows(str(tmp_path / "back" / shard.file), facts.schema)]
    assert [row.key for row in rows] == [f"{name}/{line:08d}" for line in range(1, SENTENCES + 1)]
    assert rows[3].meta == {"source": name, "line": 4}
    assert np.array_equal(np.stack([row.codes["frames"].reshape(-1) for row in rows]), expected(lock, "long"))
    (tmp_path / "m.toml").write_text(
        'version = 1\n[datasets]\nback = "back"\n[tasks.t]\ndataset = "back"\nkind = "natural"\nsentence = ["frames"]\n'
        "[stages.s]\ncontext = 96\nshare = { t = 1 }\n"
    )
    write_lock(str(tmp_path / "m.lock.json"), resolve(str(tmp_path / "m.toml")))
    again = CliRunner().invoke(export, [str(tmp_path / "m.lock.json"), "--to", kind, "--sentences", str(SENTENCES),
                                        "--out", str(tmp_path / f"again-{name}")])  # fmt: skip
    assert again.exit_code == 0, again.output
    assert sorted((tmp_path / f"again-{name}").read_bytes().splitlines()) == sorted(
        (tmp_path / name).read_bytes().splitlines()
    )


def test_pairs_come_back_as_still_roles(lock: Lock, tmp_path: Path) -> None:
    put(lock, "delvm", tmp_path / "a" / "train.bin", "--stage", "short", "--sentences", "30", "--seed", "5")
    assert not (tmp_path / "a").exists()  # a folder that is not there is named, not made
    for name, part in (("a", "0:30"), ("b", "30:42")):
        (tmp_path / name).mkdir()
        assert put(lock, "delvm", tmp_path / name / "train.bin", "--stage", "short", "--sentences", part, "--seed", "5"
                   ).exit_code == 0  # fmt: skip
    options = ["--from", "delvm", "--tokenizer-card", f"{lock.base}/pairs", "--stills", "image,depth",
               "--images-per-sentence", 2, "--sentences-per-shard", 16]  # fmt: skip
    taken = take(tmp_path / "a" / "train.bin", tmp_path / "b" / "train.bin", "--out", tmp_path / "back", *options)
    assert taken.exit_code == 0, taken.output
    facts = load_facts(str(tmp_path / "back"))
    rows = [row for shard in facts.shards for row in read_rows(str(tmp_path / "back" / shard.file), facts.schema)]
    assert [rows[0].key, rows[41].key] == ["a/train.bin/00000001/0", "b/train.bin/00000012/0"]
    codes = np.concatenate([np.stack([row.codes["image"], row.codes["depth"]])[None] for row in rows])
    assert np.array_equal(codes.reshape(42, 32), expected(lock, "short", 0, 42))


def test_a_stopped_import_goes_on_and_gives_the_same_bytes(lock: Lock, tmp_path: Path) -> None:
    put(lock, "lvm", tmp_path / "c.jsonl", *OPTIONS)
    options = [
        "--from",
        "lvm",
        "--tokenizer-card",
        f"{lock.base}/pairs",
        "--stills",
        "image",
        "--sentences-per-shard",
        8,
    ]
    take(tmp_path / "c.jsonl", "--out", tmp_path / "whole", *options)
    take(tmp_path / "c.jsonl", "--out", tmp_path / "stopped", *options)
    (tmp_path / "stopped" / "dataset.json").unlink()
    kept = tmp_path / "stopped" / "train-00002-of-00007.parquet"
    made = kept.stat().st_mtime_ns
    for file in (tmp_path / "stopped").glob("train-00004*"):
        file.unlink()
    (tmp_path / "stopped" / ".tmp-left").write_bytes(b"x")
    assert take(tmp_path / "c.jsonl", "--out", tmp_path / "stopped", *options).exit_code == 0
    assert kept.stat().st_mtime_ns == made
    content = {
        side: {f.name: f.read_bytes() for f in (tmp_path / side).glob("train-*")} for side in ("whole", "stopped")
    }
    assert content["whole"] == content["stopped"]
    assert load_facts(str(tmp_path / "stopped")).examples("train") == SENTENCES * 6
    other = take(tmp_path / "c.jsonl", "--out", tmp_path / "stopped", *options[:-1], 9)
    assert "another dataset" in str(other.exception)


def test_parquet_sentences_have_tokens_task_and_the_rows_they_are_made_of(lock: Lock, tmp_path: Path) -> None:
    assert (
        put(lock, "parquet", tmp_path / "s.parquet", "--stage", "long", "--sentences", "10:60", "--seed", "5").exit_code
        == 0
    )
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.field("tokens").type.value_type == pa.uint16()
    columns = table.to_pydict()
    assert columns["sentence"] == list(range(10, 60))
    assert columns["tokens"] == expected(lock, "long", 10).tolist()
    read = Reads(corpus=Corpus(lock), stage="long", batch=1, seed=5)
    for number in range(50):
        examples = list(examples_of(read, np.array([number + 10])))
        slots: list[Any] = [(e.key, e.view, role, frame) for e in examples for role, frame in e.images]
        assert columns["task"][number] == examples[0].task
        assert columns["dataset"][number] == examples[0].dataset
        found = zip(*(columns[name][number] for name in ("keys", "views", "roles", "frames")), strict=True)
        assert list(found) == slots
    made_from = json.loads(table.schema.metadata[b"visent"])
    assert (made_from["lock"], made_from["stage"], made_from["seed"]) == (lock.digest, "long", 5)


def test_held_out_sentences_can_be_exported(lock: Lock, tmp_path: Path) -> None:
    assert put(lock, "lvm", tmp_path / "v.jsonl", *OPTIONS, "--split", "val").exit_code == 0
    assert read_lvm(tmp_path / "v.jsonl") == expected(lock, "long", split="val").tolist()


def test_files_are_written_to_and_read_from_urls(lock: Lock, tmp_path: Path) -> None:
    url = f"memory://exchange-{tmp_path.name}"
    for target, name in (("lvm", "c.jsonl"), ("delvm", "train.bin"), ("parquet", "c.parquet")):
        for out in (f"{url}/{name}", str(tmp_path / name)):
            arguments = [f"{lock.base}/manifest.lock.json", "--to", target, "--out", out, *OPTIONS]
            assert CliRunner().invoke(export, arguments).exit_code == 0
        assert files.read_bytes(f"{url}/{name}") == (tmp_path / name).read_bytes()
    assert files.read_bytes(f"{url}/train.bin.meta") == (tmp_path / "train.bin.meta").read_bytes()
    options = ["--from", "lvm", "--tokenizer-card", f"{lock.base}/pairs"]
    for source, out in ((f"{url}/c.jsonl", f"{url}/back"), (str(tmp_path / "c.jsonl"), str(tmp_path / "back"))):
        assert take(source, "--out", out, *options).exit_code == 0
    assert compare_datasets(f"{url}/back", str(tmp_path / "back")).same


@pytest.mark.parametrize("name", ["pairs", "clips"])
def test_a_dataset_for_the_hub_loads_with_datasets_and_is_the_same(lock: Lock, tmp_path: Path, name: str) -> None:
    datasets = pytest.importorskip("datasets")
    made = CliRunner().invoke(export, [lock.folder(name), "--to", "huggingface", "--out", str(tmp_path / "hub")])
    assert made.exit_code == 0, made.output
    assert compare_datasets(lock.folder(name), str(tmp_path / "hub" / "data")).same
    facts = load_facts(lock.folder(name))
    for split in facts.splits:
        loaded = datasets.load_dataset(str(tmp_path / "hub"), split=split, cache_dir=str(tmp_path / "cache"))
        shards = [shard for shard in facts.shards if shard.split == split]
        rows = {(r.key, r.view): r for s in shards for r in read_rows(f"{lock.folder(name)}/{s.file}", facts.schema)}
        assert len(loaded) == len(rows)
        for got in loaded:
            for role, codes in rows.pop((got["key"], got["view"])).codes.items():
                assert np.array_equal(got[role], codes)


def test_the_card_is_filled_in_from_facts_and_marks_what_is_not_known(lock: Lock, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    CliRunner().invoke(export, [lock.folder("pairs"), "--to", "huggingface", "--out", str(tmp_path / "hub")])
    text = (tmp_path / "hub" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["pretty_name"] == "pairs"
    assert card["size_categories"] == ["n<1K"]
    assert {split["name"]: split["num_examples"] for split in card["dataset_info"]["splits"]} == {"train": 42, "val": 5}
    assert {file["split"] for file in card["configs"][0]["data_files"]} == {"train", "val"}
    assert "# license: FILL IN" in head
    assert "- Licence: FILL IN" in body
    assert TINY_CARD.fingerprint in body
    assert "| `depth` |" in body
    assert "| train | 21 | 2 | 42 |" in body


def test_sentences_for_the_hub_load_with_datasets(lock: Lock, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    assert put(lock, "huggingface", tmp_path / "hub", *OPTIONS).exit_code == 0
    loaded = datasets.load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache"))
    assert np.array_equal(np.array(loaded["tokens"]), expected(lock, "long"))
    assert "| clips | natural | frames | 30.00% |" in (tmp_path / "hub" / "README.md").read_text()


def test_a_missing_file_of_the_hub_folder_is_noticed(lock: Lock, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    CliRunner().invoke(export, [lock.folder("pairs"), "--to", "huggingface", "--out", str(tmp_path / "hub")])
    next((tmp_path / "hub" / "data").glob("train-*.parquet")).unlink()
    from datasets.exceptions import DatasetsError

    with pytest.raises((DatasetsError, ValueError)) as raised:
        datasets.load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    assert "NonMatchingSplitsSizes" in type(raised.value).__name__


def test_nothing_is_left_where_an_export_fails(lock: Lock, tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"train": 20})
    next((tmp_path / "d").glob("train-00001*.parquet")).write_bytes(b"no shard")
    failed = CliRunner().invoke(
        export, [str(tmp_path / "d"), "--to", "huggingface", "--out", str(tmp_path / "o" / "hub")]
    )
    assert "changed: sha256" in str(failed.exception)
    assert not list((tmp_path / "o").iterdir())
    (tmp_path / "m.toml").write_text(
        'version = 1\n[datasets]\nd = "d"\n[tasks.t]\ndataset = "d"\nkind = "single"\nsentence = ["image"]\n'
        "[stages.s]\ncontext = 16\nshare = { t = 1 }\n"
    )
    (tmp_path / "out").mkdir()
    for target, name in (("lvm", "c.jsonl"), ("delvm", "train.bin"), ("parquet", "c.parquet")):
        arguments = [
            str(tmp_path / "m.toml"),
            "--to",
            target,
            "--sentences",
            "40",
            "--out",
            str(tmp_path / "out" / name),
        ]
        failed = CliRunner().invoke(export, arguments)
        assert isinstance(failed.exception, UserError)
        assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "lvm", "--out", "x", "--stage", "long"], "--sentences"),
        (["--to", "lvm", "--out", "x", "--stage", "long", "--sentences", "9:3"], "FIRST < END"),
        (["--to", "lvm", "--out", "x", "--stage", "long", "--sentences", "a:3"], "expected a number"),
        (["--to", "lvm", "--out", "x", "--sentences", "3"], "which stage"),
        (["--to", "lvm", "--out", "x", "--stage", "lon", "--sentences", "3"], "did you mean 'long'"),
        (["--to", "delvm", "--out", "x", "--stage", "long", "--sentences", "3"], "train.bin"),
    ],
)
def test_wrong_exports_are_one_line(lock: Lock, options: list[str], message: str) -> None:
    result = CliRunner().invoke(export, [f"{lock.base}/manifest.lock.json", *options])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
