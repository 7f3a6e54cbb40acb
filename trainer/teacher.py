"""The teacher of a run: another run, computed beside the student, or the folder of what one thought likeliest."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from manifests import files
from manifests.lock import Lock
from trainer import model as llama
from trainer.choosing import choose_kernel
from trainer.config import ComputeConfig, RunConfig
from trainer.distill import TeacherModel
from trainer.mesh import layout
from trainer.run_folder import SavedRun, open_run
from trainer.teacher_cache import TeacherCache, open_cache
from visent.errors import UserError


class Taught(NamedTuple):
    """A teacher on the devices, for the step, and what a log says of it; nothing where no teacher is computed."""

    model: TeacherModel | None = None
    params: llama.Params | None = None
    lines: tuple[str, ...] = ()

    @property
    def device_bytes(self) -> int:
        """Returns what the teacher takes of each device."""
        return sum(part.addressable_shards[0].data.nbytes for part in jax.tree.leaves(self.params))


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Where a run's lessons come from: a run, or a cache for each of its stages; nothing without distillation."""

    teacher: SavedRun | None = None
    caches: Mapping[str, TeacherCache] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """Returns which teacher this is, to tell it from another when the run goes on."""
        if self.teacher is not None:
            return identity(self.teacher)
        return {stage: dict(cache.facts.teacher) for stage, cache in self.caches.items()}

    def load(self, config: RunConfig, mesh: Mesh) -> Taught:
        """Brings the teacher to the devices, if one is to be computed there.

        Raises:
            UserError: its checkpoint cannot be read.
        """
        if self.teacher is None:
            return Taught()
        longest = max(stage.context or 0 for stage in config.stages.values())
        return load(self.teacher, config.compute, longest, mesh)


def open_lessons(config: RunConfig, lock: Lock) -> Lessons:
    """Opens what `config.distill` names, and checks that it fits a run of fitted `config` on `lock`.

    Raises:
        UserError: it is not there, or of another tokenizer, or not made for these sentences.
    """
    how = config.distill
    if how.teacher is not None:
        teacher = open_teacher(how.teacher, lock)
        for name, stage in config.stages.items():
            check_context(teacher, name, stage.context or 0)
        return Lessons(teacher=teacher)
    if how.cached is not None:
        needed = {name: stage.steps * stage.batch_sentences for name, stage in config.stages.items()}
        caches = {name: open_cache(how.cached, lock, name, config.seed, count) for name, count in needed.items()}
        return Lessons(caches=caches)
    return Lessons()


def open_teacher(root: str, lock: Lock) -> SavedRun:
    """Opens a run that is to teach sentences of `lock`.

    Raises:
        UserError: it has no checkpoint, or learned tokens of another tokenizer.
    """
    saved = open_run(root)
    if saved.facts.fingerprint != lock.card.fingerprint:
        raise UserError(
            f"teacher {root} learned tokens of tokenizer {saved.lock.card.name!r} ({saved.facts.fingerprint}), the "
            f"manifest has those of {lock.card.name!r} ({lock.card.fingerprint}): expected a teacher of the same "
            "tokenizer"
        )
    if saved.config.model.codebook_size != lock.card.codebook_size:
        raise UserError(
            f"teacher {root} predicts {saved.config.model.codebook_size} codes, the manifest's tokenizer has "
            f"{lock.card.codebook_size}: expected a teacher of the same codebook"
        )
    return saved


def check_context(teacher: SavedRun, stage: str, context: int) -> None:
    """Raises a `UserError` where a teacher never saw sentences as long as a stage's: what it says there is noise."""
    longest = max((s.context or 0 for s in teacher.config.stages.values()), default=0)
    if context > longest:
        raise UserError(
            f"teacher {teacher.folder.root} learned sentences of at most {longest} tokens, stage {stage!r} has "
            f"{context}: train the teacher on that stage, too, or leave the stage out with --set stages.{stage}.steps=0"
        )


def identity(saved: SavedRun) -> dict[str, Any]:
    """Returns what tells the newest checkpoint of a run from any other, wherever it lies."""
    model = saved.config.model
    return {"model": model.name, "parameters": model.parameters, "step": saved.step, "digest": saved.digest()}


def load(saved: SavedRun, compute: ComputeConfig, context: int, mesh: Mesh) -> Taught:
    """Brings a teacher's parameters, in the type of products, to the devices of a mesh.

    Nothing is kept for a backward pass, as there is none.

    Raises:
        UserError: the checkpoint cannot be read, or the kernel that `compute` names does not work here.
    """
    model = saved.config.model
    compute, kernel = choose_kernel(model, dataclasses.replace(compute, remat="none"), context, mesh)
    cast = partial(llama.cast, compute=compute, trained=False)
    params = saved.params(mesh)
    halved = jax.jit(cast, out_shardings=layout(mesh, jax.eval_shape(cast, params)))(params)
    line = f"teacher: {model.name} of {saved.folder.root}, step {saved.step}, {kernel}"
    return Taught(TeacherModel(model, compute), halved, (line,))


def free_bytes(folder: str) -> int | None:
    """Returns the room on the disk of a folder; None at a URL."""
    if files.is_url(folder):
        return None
    import shutil

    return shutil.disk_usage(folder).free
