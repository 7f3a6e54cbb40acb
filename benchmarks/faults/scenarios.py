"""What the campaign disturbs: real commands on small real inputs, and what each must leave behind."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pictures import write_pictures
from manifests import files
from manifests.receipts import read_receipts
from tokenizer.testing import tiny_tokenizer_dir

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = 120
BROKEN = {"broken/empty.jpg": b"", "broken/cut.jpg": b"\xff\xd8\xff\xe0 cut", "broken/text.png": b"no picture"}
PROCESSES = ("--workers", "2")
MANY_REJECTS = ("--max-reject-fraction", "0.5")
MANIFEST = """\
version = 1

[datasets.photos]
path = "photos"
views = 1

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.edge]
dataset = "photos"
kind = "discriminative"
sentence = ["image", "edge"]

[stages.images]
context = 16
share = { photos = 1.0 }

[stages.sequences]
context = 64
share = { photos = 0.5, edge = 0.5 }
"""
TRAINING = (
    "model.hidden=32", "model.mlp=48", "model.heads=2", "model.layers=2", "log_every=1", "checkpoint_every=1",
    "stages.images.batch_sentences=8", "stages.images.warmup_steps=0", "stages.images.steps=8",
    "stages.sequences.batch_sentences=4", "stages.sequences.warmup_steps=0", "stages.sequences.steps=6",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What all scenarios read; nothing changes it."""

    photos: Path
    tokenizer: Path
    dataset: Path  # the photos' finished tokens
    manifest: Path  # reads them; views.toml beside it asks for views, too
    mended: Path  # photos of which some were broken when `mended/corpus/photos` was made
    grown: Path  # photos of which half were there when `grown/corpus/photos` was made


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One command over a folder of its own.

    `prepare` fills the folder with what must be there before; `arguments` are those of `visent`; `results` names what
    has to be the same as after an undisturbed run; `datasets` are the folders of shards that are written.
    """

    name: str
    prepare: Callable[[Path], None]
    arguments: Callable[[Path], Sequence[str]]
    results: Callable[[Path], Mapping[str, str]]
    datasets: tuple[str, ...] = ()


def make_inputs(folder: Path) -> Inputs:
    """Makes photos, some of them broken, a tokenizer, a dataset and a manifest."""
    photos = folder / "photos"
    write_pictures(photos, PHOTOS)
    for name, data in BROKEN.items():
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(data)
    tokenizer = tiny_tokenizer_dir(folder)
    dataset, manifest = folder / "corpus" / "photos", folder / "corpus" / "manifest.toml"
    visent(tokenize_arguments(photos, tokenizer, str(dataset)))
    manifest.write_text(MANIFEST)
    manifest.with_name("views.toml").write_text(MANIFEST.replace("views = 1", "views = 5"))
    return Inputs(
        photos=photos, tokenizer=tokenizer, dataset=dataset, manifest=manifest,
        mended=_mended(photos, tokenizer, folder / "mended"), grown=_grown(photos, tokenizer, folder / "grown"),
    )  # fmt: skip


def _mended(photos: Path, tokenizer: Path, folder: Path) -> Path:
    """Makes a dataset of photos of which every seventh is cut, and then puts the whole ones in their place."""
    shutil.copytree(photos, folder / "photos")
    damaged = sorted((folder / "photos" / "0000").iterdir())[::7]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:200])
    visent(tokenize_arguments(folder / "photos", tokenizer, str(folder / "corpus" / "photos"), *MANY_REJECTS))
    for path in damaged:
        shutil.copy(photos / "0000" / path.name, path)
    return folder


def _grown(photos: Path, tokenizer: Path, folder: Path) -> Path:
    """Makes a dataset of half of the photos, and then adds the others."""
    shutil.copytree(photos, folder / "photos")
    later = sorted((folder / "photos" / "0000").iterdir())[1::2]
    for path in later:
        path.unlink()
    visent(tokenize_arguments(folder / "photos", tokenizer, str(folder / "corpus" / "photos"), *MANY_REJECTS))
    for path in later:
        shutil.copy(photos / "0000" / path.name, path)
    return folder


def tokenize_arguments(photos: Path | str, tokenizer: Path, out: str, *more: str) -> list[str]:
    """Returns the command that every scenario of tokenizing runs: 16 shards, three rejects."""
    return ["tokenize", "folder", str(photos), "--out", out, "--tokenizer", str(tokenizer), "--annotate", "edge",
            "--items-per-shard", "8", *more]  # fmt: skip


def train_arguments(manifest: str, out: str) -> list[str]:
    """Returns the command that every scenario of training runs: fourteen steps, each with a checkpoint."""
    settings = [part for setting in TRAINING for part in ("--set", setting)]
    return ["train", "tiny", "--manifest", manifest, "--out", out, *settings]


def visent(arguments: Sequence[str]) -> None:
    """Runs a command that must succeed."""
    subprocess.run([sys.executable, "-m", "visent", *arguments], cwd=ROOT, check=True, capture_output=True)


def scenarios(inputs: Inputs) -> list[Scenario]:
    """Returns all scenarios."""

    def nothing(folder: Path) -> None:
        pass

    def corpus(folder: Path) -> None:
        shutil.copytree(inputs.dataset.parent, folder / "corpus")

    def of(made: Path) -> Callable[[Path], None]:
        return lambda folder: _copy(made / "corpus", folder / "corpus")

    def lines_of(folder: Path) -> dict[str, str]:
        return {"manifest.lock.json": _digest((folder / "corpus" / "manifest.lock.json").read_bytes())}

    def tokenizing(*more: str) -> Callable[[Path], list[str]]:
        return lambda folder: tokenize_arguments(inputs.photos, inputs.tokenizer, str(folder / "photos"), *more)

    def manifest(folder: Path, name: str = "manifest.toml") -> str:
        return str(folder / "corpus" / name)

    rows, views = ("photos",), ("corpus/photos",)
    return [
        Scenario(name="tokenize", prepare=nothing, arguments=tokenizing(), results=_of(rows), datasets=rows),
        Scenario(name="tokenize in two processes", prepare=nothing, arguments=tokenizing(*PROCESSES),
                 results=_of(rows), datasets=rows),
        Scenario(name="tokenize to ArrayRecord", prepare=nothing, arguments=tokenizing("--format", "arrayrecord"),
                 results=_of(rows), datasets=rows),
        Scenario(name="tokenize --views-from", prepare=corpus, results=_of(views), datasets=views,
                 arguments=lambda folder: ["tokenize", "--views-from", manifest(folder, "views.toml")]),
        Scenario(name="tokenize --retry-rejects", prepare=of(inputs.mended), results=_of(views), datasets=views,
                 arguments=lambda folder: ["tokenize", "--retry-rejects", str(folder / "corpus" / "photos")]),
        Scenario(name="tokenize more photos", prepare=of(inputs.grown), results=_of(views), datasets=views,
                 arguments=lambda folder: tokenize_arguments(
                     inputs.grown / "photos", inputs.tokenizer, str(folder / "corpus" / "photos"), *MANY_REJECTS)),
        Scenario(name="verify", prepare=corpus, results=_of(views), datasets=views,
                 arguments=lambda folder: ["verify", str(folder / "corpus" / "photos")]),
        Scenario(name="manifest lock", prepare=corpus,
                 arguments=lambda folder: ["manifest", "lock", manifest(folder)], results=lines_of),
        Scenario(name="train", prepare=nothing, results=lambda folder: of_run(str(folder / "run")),
                 arguments=lambda folder: train_arguments(str(inputs.manifest), str(folder / "run"))),
    ]  # fmt: skip


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def _of(datasets: Sequence[str]) -> Callable[[Path], dict[str, str]]:
    return lambda folder: {
        f"{name}/{file}": digest for name in datasets for file, digest in of_dataset(str(folder / name)).items()
    }


def of_dataset(folder: str) -> dict[str, str]:
    """Returns the sha256 of each file of a dataset in a folder or bucket, but for the two that name their places."""
    names = [name for name in files.list_sizes(folder) if name not in ("job.json", "dataset.json")]
    found = zip(names, files.read_many(folder, names), strict=True)
    digests = {name: _digest(data) for name, data in found if data is not None}
    facts = files.read_json(files.join(folder, "dataset.json"))
    facts["config"] = {name: value for name, value in facts["config"].items() if name not in ("roots", "tokenizer")}
    facts.pop("config_digest", None)
    return {**digests, "dataset.json": _digest(json.dumps(facts, sort_keys=True).encode())}


def of_run(folder: str) -> dict[str, str]:
    """Returns every loss of a run in a folder or bucket, and the sha256 of its last checkpoint's parameters."""
    import jax

    from trainer.run_folder import open_run

    run = open_run(folder)
    lines = (json.loads(line) for line in files.read_bytes(files.join(folder, "metrics.jsonl")).splitlines())
    losses = {str(line["step"]): repr(line["loss"]) for line in lines}
    leaves = jax.tree.leaves(run.params())
    return {**losses, "step": str(run.step), "parameters": _digest(b"".join(leaf.tobytes() for leaf in leaves))}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def half_shards(folder: str) -> int:
    """Counts shards whose receipt stands for other bytes than those that lie there."""
    found = read_receipts(folder)
    return sum(files.sha256(files.join(folder, name)) != info.sha256 for name, info in found.items())
