"""Every command from pictures to a model that generates, with nothing of it on a local disk, through faults."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.faults.buckets import Bucket
from benchmarks.faults.proxy import Fault, each
from benchmarks.pictures import write_pictures
from manifests import files
from manifests.receipts import read_receipts
from tokenizer.testing import tiny_tokenizer_dir
from visent import staging

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.hidden=32", "model.mlp=48", "model.heads=2", "model.layers=2", "stages.images.batch_sentences=8",
         "stages.images.warmup_steps=0", "stages.images.steps=4", "stages.sequences.steps=0",
         "stages.sequences.warmup_steps=0", "log_every=1", "checkpoint_every=2")  # fmt: skip
TRAINING = [part for setting in SMALL for part in ("--set", setting)]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "visent", *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def visent(*arguments: str) -> str:
    process = start(*arguments)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, f"{arguments}: {err}"
    assert "Traceback" not in err
    return out


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a tokenizer, and what tokenize makes of them on a disk."""
    folder = tmp_path_factory.mktemp("local")
    write_pictures(folder / "photos", 12)
    tokenizer = tiny_tokenizer_dir(folder / "made")
    Path(tokenizer).rename(folder / "tok")
    tokenize(str(folder), f"{folder}/c")
    return folder


def tokenize(inputs: str, out: str) -> None:
    visent("tokenize", "folder", f"{inputs}/photos", "--out", out, "--tokenizer", f"{inputs}/tok",
           "--items-per-shard", "4")  # fmt: skip


def shards(folder: str) -> dict[str, str]:
    """The bytes of what is there, and that each shard matches its receipt and its facts."""
    facts = files.read_json(files.join(folder, "dataset.json"))
    found = {name: files.sha256(files.join(folder, name)) for name in files.list_sizes(folder) if "parquet" in name}
    assert found == {shard["file"]: shard["sha256"] for shard in facts["shards"]}
    assert found == {name: info.sha256 for name, info in read_receipts(folder).items()}
    return found


@pytest.mark.slow
def test_shards_in_a_bucket_are_those_on_a_disk_through_every_fault(served: Bucket, local: Path) -> None:
    staging.send(local / "tok", f"{served.url}/tok")
    staging.send(local / "photos", f"{served.url}/photos")
    served.proxy.reset(each(0.01, seconds=0.5), seed=1)
    tokenize(served.url, f"{served.url}/c")
    assert served.proxy.injected
    served.proxy.reset()
    assert shards(f"{served.url}/c") == shards(f"{local}/c")


@pytest.mark.slow
def test_a_killed_job_leaves_whole_shards_in_a_bucket_and_goes_on(served: Bucket, local: Path) -> None:
    out = f"{served.url}/c"
    served.proxy.reset([Fault(kind="slow", operation="write", seconds=1.0, most=None)])
    process = start("tokenize", "folder", f"{local}/photos", "--out", out, "--tokenizer", f"{local}/tok",
                    "--items-per-shard", "4")  # fmt: skip
    while process.poll() is None and not any("parquet" in name for name in files.list_sizes(out)):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole = {name: size for name, size in files.list_sizes(out).items() if "parquet" in name}
    assert whole == {name: (local / "c" / name).stat().st_size for name in whole}
    served.proxy.reset()
    tokenize(str(local), out)
    assert shards(out) == shards(f"{local}/c")


@pytest.mark.slow
def test_all_commands_take_urls(served: Bucket, local: Path) -> None:
    url = served.url
    for name in ("tok", "photos"):
        staging.send(local / name, f"{url}/{name}")
    tokenize(url, f"{url}/c")
    visent("verify", f"{url}/c")
    visent("show", f"{url}/c", "--tokenizer", f"{url}/tok", "--out", f"{url}/made/show.png")
    manifest = f"{url}/m/manifest.toml"
    visent("manifest", "init", f"{url}/c", "--out", manifest, "--recipe", "lvm-lite")
    visent("manifest", "set", manifest, "balance.max_epochs=8")
    visent("manifest", "check", manifest)
    visent("manifest", "balance", manifest, "--plot", f"{url}/made/plot.png")
    visent("manifest", "lock", manifest)
    visent("train", "tiny", "--manifest", manifest, "--out", f"{url}/run", *TRAINING)
    visent("model", "export", f"{url}/run", "--out", f"{url}/made/llama")
    assert "learned" in visent("model", "show", f"{url}/made/llama")
    visent("generate", f"{url}/run", "--top-half", f"{url}/photos/0000/000001.jpg", "--count", "1", "--tokenizer",
           f"{url}/tok", "--out", f"{url}/made/drawn")  # fmt: skip
    visent("export", f"{url}/c", "--to", "huggingface", "--out", f"{url}/made/hub")
    visent("tokenizer", "encode", f"{url}/photos", "--tokenizer", f"{url}/tok", "--out", f"{url}/made/codes.npz")
    visent("tokenizer", "decode", f"{url}/made/codes.npz", "--tokenizer", f"{url}/tok", "--out", f"{url}/made/again")
    visent("tokenizer", "eval", f"{url}/photos", "--tokenizer", f"{url}/tok", "--json", f"{url}/made/eval.json")
    assert files.list_names(f"{url}/made") == ["again", "codes.npz", "drawn", "eval.json", "hub", "llama", "plot.png",
                                              "show.png"]  # fmt: skip
    assert json.loads(files.read_bytes(f"{url}/made/drawn/generated.json"))["samples"]
    assert not list(ROOT.glob("*:"))


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_and_ends_as_an_undisturbed_one(served: Bucket, local: Path) -> None:
    url, manifest = served.url, f"{local}/m.toml"
    visent("manifest", "init", f"{local}/c", "--out", manifest, "--recipe", "lvm-lite", "--overwrite")
    options = ("train", "tiny", "--manifest", manifest, *TRAINING)
    visent(*options, "--out", f"{local}/run-{url[:2]}")
    process = start(*options, "--out", f"{url}/run")
    while process.poll() is None and not steps(f"{url}/run"):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    visent(*options, "--out", f"{url}/run")
    assert steps(f"{url}/run")[-1] == 4
    assert losses(f"{url}/run") == losses(f"{local}/run-{url[:2]}")


def steps(run: str) -> list[int]:
    folder = f"{run}/checkpoints"
    whole = [name for name in files.list_names(folder) if files.exists(f"{folder}/{name}/commit_success.txt")]
    return sorted(int(name) for name in whole if name.isdecimal())


def losses(run: str) -> list[tuple[int, float]]:
    lines = files.read_bytes(f"{run}/metrics.jsonl").decode().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]
