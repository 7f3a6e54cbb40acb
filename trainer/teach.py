"""The work of `visent teacher`: a run computes what it thinks likeliest of a stage's sentences, file by file."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Int64

from manifests import files
from manifests.corpus import Corpus
from manifests.lock import Lock
from trainer import batches
from trainer import mesh as meshes
from trainer import model as llama
from trainer.batches import Likeliest
from trainer.config import ComputeConfig
from trainer.distill import TeacherModel, likeliest
from trainer.losses import chunk_length, in_chunks, sentences_of_device
from trainer.memory import advised
from trainer.run_folder import SavedRun
from trainer.teacher import check_context, free_bytes, identity, load
from trainer.teacher_cache import FACTS, CacheFacts, file_name, in_file, is_whole, read_facts, read_receipt, write_file
from visent.errors import UserError
from visent.progress import Track, track

Ask = Callable[[Any], Likeliest]


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What is to be computed, and how."""

    stage: str
    sentences: int
    seed: int
    top_k: int
    compute: ComputeConfig
    tokens_at_once: int  # computed together on each device
    part: tuple[int, int] = (0, 1)  # every n-th file from the i-th, for several machines that share the work
    check: bool = False  # read finished files again and compare them with their receipts


def plan(saved: SavedRun, lock: Lock, work: Assignment) -> CacheFacts:
    """Returns what the files will hold.

    Raises:
        UserError: the stage is unknown, or the assignment does not fit it or the teacher.
    """
    context, codes = lock.stage(work.stage).context, lock.card.codebook_size
    check_context(saved, work.stage, context)
    if not 0 < work.top_k <= codes:
        raise UserError(f"--top-k is {work.top_k}: expected 1 up to the codebook's {codes} codes")
    return CacheFacts(
        lock_digest=lock.digest,
        fingerprint=lock.card.fingerprint,
        codebook_size=codes,
        stage=work.stage,
        seed=work.seed,
        context=context,
        top_k=work.top_k,
        precision=str(llama.dtype_of(work.compute)),
        teacher=identity(saved),
        sentences=work.sentences,
    )


def write(
    saved: SavedRun, lock: Lock, work: Assignment, facts: CacheFacts, root: str, say: Callable[[str], None]
) -> int:
    """Writes the files that are missing, and returns how many there were; `say` is told how it is computed.

    Raises:
        UserError: `root` holds the files of something else, or cannot be written, or has too little room.
    """
    folder = files.join(root, work.stage)
    files.make_folder(folder)
    facts = _begin(folder, facts, work)
    missing = _missing(folder, facts, work)
    need, free = sum(len(facts.numbers(n)) for n in missing) * facts.record.itemsize, free_bytes(folder)
    if free is not None and need > free:
        raise UserError(
            f"{root} has {free / 1e9:,.1f} GB of room, {need / 1e9:,.1f} GB are to be written: choose another --out, "
            "a smaller --top-k, or fewer --steps"
        )
    if not missing:
        return 0
    with advised("while teaching", "use a smaller --tokens-at-once, --set compute.loss_chunk_tokens=1024, or on "
                 "several devices --set compute.fsdp=N"):  # fmt: skip
        _write(saved, lock, work, facts, folder, missing, say)
    return len(missing)


def _write(
    saved: SavedRun, lock: Lock, work: Assignment, facts: CacheFacts, folder: str, missing: list[int],
    say: Callable[[str], None],
) -> None:  # fmt: skip
    mesh = meshes.make_mesh(work.compute)
    taught = load(saved, work.compute, facts.context, mesh)
    assert taught.model is not None
    assert taught.params is not None
    say(taught.lines[0])
    ask = partial(make_ask(taught.model, facts.top_k, mesh), taught.params)
    corpus, tokens = Corpus(lock), sum(len(facts.numbers(n)) for n in missing) * facts.context
    with jax.set_mesh(mesh), track(f"teacher, {work.stage}", tokens, "tokens") as bar:
        for number in missing:
            inside = facts.numbers(number)
            write_file(folder, number, inside.start, _file(corpus, facts, inside, ask, mesh, work.tokens_at_once, bar))


def _begin(folder: str, facts: CacheFacts, work: Assignment) -> CacheFacts:
    """Returns the facts of all that the folder will hold: those there are may go further, never elsewhere."""
    try:
        old = read_facts(folder)
    except FileNotFoundError:
        old = facts
    old.check_same(facts, folder)
    facts = dataclasses.replace(facts, sentences=max(old.sentences, facts.sentences))
    if work.part[0] == 0 or not files.exists(files.join(folder, FACTS)):
        if work.part[1] == 1:  # else others may be writing
            files.remove_temporaries(folder)
        files.write_json(files.join(folder, FACTS), asdict(facts))
    return facts


def _missing(folder: str, facts: CacheFacts, work: Assignment) -> list[int]:
    """Returns the files of this part that are not there, not whole, or shorter than they should be now."""
    missing, there = [], set(files.list_names(folder))
    for number in range(work.part[0], facts.files, work.part[1]):
        receipt = read_receipt(folder, number) if f"{file_name(number)}.json" in there else None
        done = receipt is not None and receipt.sentences == len(facts.numbers(number))
        if not (done and receipt is not None and is_whole(folder, receipt, by_content=work.check)):
            missing.append(number)
    return missing


def make_ask(model: TeacherModel, k: int, mesh: Mesh) -> Callable[[llama.Params, Any], Likeliest]:
    """Returns the jitted function from parameters and codes `uint16[b t]` to the k likeliest codes of each position."""
    graph = llama.definition(*model)

    @partial(jax.jit, out_shardings=meshes.over_batch(mesh))
    def ask(params: llama.Params, codes: Any) -> Likeliest:
        merged = nnx.merge(graph, params)
        hidden = merged.before(codes.astype(jnp.int32))
        batch, context = codes.shape
        length = chunk_length(sentences_of_device(batch), context, model.compute.loss_chunk_tokens)
        found = jax.lax.map(lambda part: likeliest(merged, part, k), in_chunks(hidden, length))
        whole: Likeliest = jax.tree.map(_joined, found)
        return whole

    return ask


def _joined(chunks: Array) -> Array:
    """Returns `[chunks b length k]` as `[b t k]`."""
    return chunks.swapaxes(0, 1).reshape(chunks.shape[1], -1, chunks.shape[3])


def _file(
    corpus: Corpus, facts: CacheFacts, inside: range, ask: Ask, mesh: Mesh, tokens_at_once: int, bar: Track
) -> np.ndarray:
    """Returns the records of a file; while the device computes some, the next codes are read."""
    order = inside.start + in_file(len(inside))
    parts = meshes.batch_parts(mesh)
    rows = parts * max(1, min(tokens_at_once // facts.context, -(-len(order) // parts)))
    records = np.empty(len(order), facts.record)
    for start, found in _answers(corpus, facts, order, rows, ask, mesh):
        here = slice(start, min(start + rows, len(order)))
        for name, values in found._asdict().items():
            records[name][here] = np.asarray(values)[: here.stop - here.start]
        bar.advance((here.stop - here.start) * facts.context)
    return records


def _answers(
    corpus: Corpus, facts: CacheFacts, order: Int64[np.ndarray, " n"], rows: int, ask: Ask, mesh: Mesh
) -> Iterator[tuple[int, Likeliest]]:
    """Yields answers for `rows` sentences at a time, one late: the device has always something to do."""

    def read(turn: int) -> Any:
        wanted = order[turn * rows : (turn + 1) * rows]
        codes = corpus.sentences(facts.stage, wanted, facts.seed)[0]
        padded = np.pad(codes, ((0, rows - len(codes)), (0, 0)))
        return jax.device_put(padded, meshes.over_batch(mesh))

    waiting: tuple[int, Likeliest] | None = None
    for turn, codes in enumerate(batches.read_ahead(read, range(-(-len(order) // rows)))):
        asked = (turn * rows, ask(codes))
        if waiting is not None:
            yield waiting
        waiting = asked
    assert waiting is not None, "a file has at least one sentence"
    yield waiting
