"""Where a run keeps what it writes, and how others read it: in a folder or at a `gs://` URL."""

from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import Mesh

from manifests import canonical, files
from manifests.lock import Lock, load_lock, write_lock
from trainer import model as llama
from trainer.checkpoint import Checkpoints
from trainer.config import ModelConfig, RunConfig
from trainer.mesh import placed
from trainer.run_facts import RunFacts
from visent import __version__
from visent.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """The places in a run's folder; all are paths or URLs for `manifests.files`."""

    root: str | Path

    @property
    def config(self) -> str:
        """What the run is, as JSON."""
        return files.join(self.root, "config.json")

    @property
    def lock(self) -> str:
        """The lock it reads."""
        return files.join(self.root, "manifest.lock.json")

    @property
    def metrics(self) -> str:
        """One line for every few steps."""
        return files.join(self.root, "metrics.jsonl")

    @property
    def evaluations(self) -> str:
        """One line for each held-out evaluation."""
        return files.join(self.root, "eval.jsonl")

    @property
    def tensorboard(self) -> str:
        """Event files: the same figures and the sheets of samples as curves and pictures."""
        return files.join(self.root, "tensorboard")

    @property
    def samples(self) -> str:
        """Sheets of images generated while training."""
        return files.join(self.root, "samples")

    @property
    def checkpoints(self) -> str:
        """One folder for each checkpoint kept."""
        return files.join(self.root, "checkpoints")

    def write(self, facts: RunFacts, lock: Lock) -> None:
        """Writes what the run is and the lock it reads.

        Raises:
            UserError: the folder cannot be made or written.
        """
        files.make_folder(self.root)
        files.write_json(self.config, {**facts.to_json(), "version": __version__, "card": lock.card.to_json()})
        write_lock(self.lock, lock)


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """A run as others see it: one of its checkpoints (the newest, unless asked otherwise) and the lock it reads."""

    folder: RunFolder
    facts: RunFacts
    lock: Lock
    step: int

    @property
    def config(self) -> RunConfig:
        """What the run is."""
        return self.facts.config

    def params(self, mesh: Mesh | None = None) -> llama.Params:
        """Returns the checkpoint's parameters, float32, laid over `mesh` or whole on one device.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        like = shapes(self.config.model)
        if mesh is not None:
            like = placed(mesh, like)
        with Checkpoints(self.folder.checkpoints) as checkpoints:
            return checkpoints.restore_params(like, self.step)

    def digest(self) -> str:
        """Returns a name for the parameters' values, the same wherever the run lies.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        with Checkpoints(self.folder.checkpoints) as checkpoints:
            return canonical.digest_json(checkpoints.params_digests(self.step))[:16]


def open_run(root: str | Path, step: int | None = None) -> SavedRun:
    """Reads what a checkpoint of a run (the newest one) belongs to; its parameters are read by `params`.

    Raises:
        UserError: the folder has no checkpoint, or none of this step, or it cannot be read, or it is of
            `visent classify`.
    """
    folder = RunFolder(root)
    if not files.list_names(folder.checkpoints):
        raise UserError(f"{root} has no checkpoints: expected the --out folder of `visent train`")
    with Checkpoints(folder.checkpoints) as checkpoints:
        steps = checkpoints.steps
        if not steps:
            raise UserError(f"{root} has no finished checkpoint: run its `visent train` again, it goes on")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise UserError(
                f"{root} has no checkpoint of step {step}: it has {', '.join(map(str, steps))}; which ones a run keeps "
                "besides the ends of its stages say --set keep_checkpoints=N and --set keep_every=N of `visent train`"
            )
        facts = checkpoints.facts(step)
        if facts.config.classify is not None:  # it has no lock either
            raise UserError(
                f"{root} is a classifier of pictures, which knows no codes: give the run that it began with"
            )
        return SavedRun(folder=folder, facts=facts, lock=load_lock(folder.lock), step=step)


def steps_of(root: str | Path) -> list[int]:
    """Returns the steps of a run's checkpoints, in order.

    Raises:
        UserError: they cannot be reached.
    """
    with Checkpoints(RunFolder(root).checkpoints) as checkpoints:
        return checkpoints.steps


def shapes(model: ModelConfig) -> llama.Params:
    """Returns the shapes and types of a model's parameters."""
    found: llama.Params = jax.eval_shape(lambda: llama.init(model, 0, llama.any_codebook(model)))
    return found
