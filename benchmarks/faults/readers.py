"""What reads each kind of file: the very functions that commands and workers call, to the end of what they do."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = "targets.json"
SIDE = 32  # of the squares


@dataclass(frozen=True, kw_only=True)
class Target:
    """Files to damage, one at a time, and who reads the folder then. `given` is for the reader."""

    name: str
    reader: str
    folder: str
    files: list[str]
    given: Mapping[str, Any] = field(default_factory=dict)


def load_targets(work: Path) -> dict[str, Target]:
    """Returns the targets of a folder that `seeds.write_targets` wrote; it may have been copied since."""
    found = [Target(**fields) for fields in json.loads((work / TARGETS).read_text())]
    return {one.name: Target(**{**asdict(one), "folder": str(work / one.folder)}) for one in found}


def _source(target: Target) -> str:
    """Lists a dataset and reads all of it into rows, as a job does."""
    from pipelines.sources.catalog import dataset_class
    from pipelines.sources.dataset import DatasetSource

    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in target.given["options"].items()
    }
    made = dataset_class(target.given["dataset"])(root=target.folder, **options)  # type: ignore[call-arg]
    return _rows(DatasetSource(name=target.given["dataset"], dataset=made, items_per_unit=4))


def _folder(target: Target) -> str:
    from pipelines.sources.folder import FolderSource

    return _rows(FolderSource(paths=(target.folder,), items_per_unit=4))


def _pairs(target: Target) -> str:
    from pipelines.sources.pairs import PairsSource

    roles = {"image": f"{target.folder}/image", "depth": f"{target.folder}/depth", "labels": f"{target.folder}/labels"}
    return _rows(PairsSource(paths=roles, items_per_unit=4, depth=("depth",), labels=("labels",)))


def _rows(source: Any) -> str:
    """Makes rows of all of a source's units; the codes are none, all else is as in a job."""
    from manifests.schema import Row, Schema, check_row
    from manifests.testing import TINY_CARD
    from pipelines.examples import Look, squares
    from pipelines.sources.base import Reject, Unit, cut_into_units

    roles = tuple(source.roles)
    look = Look(dataset="fuzz", roles=roles, annotate=(), preset="crop", size=SIDE)
    schema = Schema(roles=source.roles, card=TINY_CARD)
    rejects = 0
    items, _ = source.listing()
    source.estimate(items)
    for unit in cut_into_units(items, source.items_per_unit, 0.0):
        for example in source.examples(Unit.from_json(unit.to_json())):
            made = example if isinstance(example, Reject) else squares(example, look, [0])
            if isinstance(made, Reject):
                json.dumps(made.to_json()).encode()
                rejects += 1
                continue
            codes = {role: _codes(made[0].pictures[role], schema, role) for role in roles}
            check_row(Row(key=made[0].key, view=0, codes=codes, meta=made[0].meta), schema)
    return "rejected" if rejects else "read"


def _codes(pictures: np.ndarray, schema: Any, role: str) -> np.ndarray:
    codes = np.zeros((len(pictures), schema.tokens_per_image), np.uint16)
    return codes[0] if role in schema.stills else codes


def _verify(target: Target) -> str:
    """Verifies a dataset whose facts and shards lie in the folder."""
    from pipelines.verify import verify_dataset

    return "rejected" if verify_dataset(target.folder).problems else "read"


def _shard(target: Target) -> str:
    """Reads a shard whose checksum nobody compared."""
    from manifests import shards
    from manifests.dataset import load_facts

    facts = load_facts(target.folder)
    for info in facts.shards:
        path = f"{target.folder}/{info.file}"
        for _ in shards.read_rows(path, facts.schema):
            pass
        for _ in shards.read_metas(path, facts.schema):
            pass
        shards.read_keys(path, facts.schema)
        for role in facts.schema.roles:
            shards.read_codes(path, facts.schema, role)
    return "read"


def _pixels(target: Target) -> str:
    """Reads all pixels of a dataset whose list, damaged or not, names the checksums that its files have."""
    from manifests import files
    from manifests.pixels import PixelStore
    from visent.errors import UserError
    from visent.untrusted.documents import parse_json

    listed = Path(target.folder, "pixels", "val.json")
    try:
        value = parse_json(listed.read_bytes())
        for info in value["files"]:
            info["sha256"] = files.sha256(listed.with_name(info["file"]))
        listed.write_text(json.dumps(value))
    except (ValueError, KeyError, TypeError, OSError, UserError):
        pass  # then it is read as it is
    store = PixelStore.open(target.folder, "val")
    for role in store.roles:
        store.legend(role)
        for number in range(len(store.keys)):
            store.read(role, np.array([number]))
    return "read"


def _manifest(target: Target) -> str:
    """Resolves a manifest and reads a batch by its lock, as a run does."""
    from manifests import lock
    from manifests.corpus import Corpus

    resolved = lock.resolve(f"{target.folder}/manifest.toml")
    lock.write_lock(f"{target.folder}/again.lock.json", resolved)
    corpus = Corpus(lock.load_lock(f"{target.folder}/again.lock.json"))
    for stage in resolved.stages:
        for task in corpus.task_names(stage):
            corpus.task_sentences(stage, task, np.arange(2), 0)
    return "read"


def _lock(target: Target) -> str:
    """Reads by a lock that came with a run."""
    from manifests.corpus import Corpus
    from manifests.lock import load_lock

    found = load_lock(f"{target.folder}/manifest.lock.json")
    corpus = Corpus(found)
    for stage in found.stages:
        for task in corpus.task_names(stage):
            corpus.task_sentences(stage, task, np.arange(2), 0)
    return "read"


def _edit(target: Target) -> str:
    """Edits a manifest by tool, which keeps its comments."""
    from manifests.assign import assign
    from manifests.manifest import load

    load(f"{target.folder}/manifest.toml")
    text = Path(target.folder, "manifest.toml").read_text()
    assign(text, f"{target.folder}/manifest.toml", ["stages.images.context=32"])
    return "read"


def _checkpoint(target: Target) -> str:
    """Reads a tokenizer's weights, whatever their layout."""
    from tokenizer.checkpoints.reading import read

    read(Path(target.folder, target.given["path"]))
    return "read"


def _perceptual(target: Target) -> str:
    from tokenizer.training.vgg_weights import read_vgg

    read_vgg(Path(target.folder, target.files[0]), [1], [4])
    return "read"


def _codes_file(target: Target) -> str:
    from manifests.testing import TINY_CARD
    from tokenizer.codes import png_names, read_codes

    path = Path(target.folder, target.files[0])
    found = read_codes(path)
    found.check_made_by(TINY_CARD, path)
    found.rows(TINY_CARD, path)
    png_names(found.names, path)
    return "read"


def _llama(target: Target) -> str:
    """Opens a folder of Hugging Face's Llama and reads its numbers."""
    from trainer.exchange.importing import open_folder, read_params

    folder = open_folder(Path(target.folder))
    read_params(folder, folder.settings.model("fuzz", folder.settings.vocabulary, None))
    return "read"


def _run(target: Target) -> str:
    """Opens a run and restores its parameters."""
    from trainer.run_folder import open_run

    open_run(target.folder)
    return "read"


def _annotator(target: Target) -> str:
    """Loads an ONNX model with its card and draws with it."""
    from pipelines.annotate import onnx_model

    found = onnx_model.files(Path(target.folder, "model.toml"))
    model = onnx_model.load(found, SIDE)
    picture = np.zeros((40, 30, 3), np.uint8)
    batch = np.stack([model.prepare(picture)] * model.batch_size)
    model.draw(model.run(batch)[0], picture)
    return "read"


def _import_lvm(target: Target) -> str:
    return _imported(target, "lvm")


def _import_delvm(target: Target) -> str:
    return _imported(target, "delvm")


def _imported(target: Target, kind: Any) -> str:
    """Makes a dataset of foreign token files."""
    import shutil

    from manifests.exchange.incoming import Cut, import_files
    from manifests.testing import TINY_CARD

    out = f"{target.folder}/out"
    try:
        import_files([f"{target.folder}/{target.given['path']}"], kind, out, TINY_CARD, Cut(clip="frames"))
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return "read"


READERS: Mapping[str, Callable[[Target], str]] = {
    "source": _source, "folder": _folder, "pairs": _pairs, "verify": _verify, "shard": _shard, "pixels": _pixels,
    "manifest": _manifest, "lock": _lock, "edit": _edit, "checkpoint": _checkpoint, "perceptual": _perceptual,
    "codes": _codes_file, "llama": _llama, "run": _run, "annotator": _annotator, "lvm": _import_lvm,
    "delvm": _import_delvm,
}  # fmt: skip
