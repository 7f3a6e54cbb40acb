"""A training run on disk: figures of its steps, checkpoints, the tokenizer so far, and when to stop."""

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tokenizer.card import TokenizerCard
from tokenizer.checkpoints.folder import save
from tokenizer.load import load, load_card
from tokenizer.quality import judge, round_trip_sheet
from tokenizer.tokenizer import Tokenizer
from tokenizer.training.config import TrainConfig
from tokenizer.training.loop import Trainer
from tokenizer.training.perceptual import mean_distance
from tokenizer.training.recipes import RECIPES
from tokenizer.training.resume import STATE_FILE, restore_state, save_state
from tokenizer.training.step import Figures
from visent.errors import UserError
from visent.progress import Track, track

STEPS_BETWEEN_LINES = 50
STEPS_BETWEEN_EXPORTS = 500


class Run:
    """Trains to the last step; writes figures, checkpoints and the tokenizer so far to `out` on the way."""

    def __init__(
        self, trainer: Trainer, out: Path, name: str, about: dict[str, str], kept: Callable[[], None] = lambda: None
    ) -> None:
        self.trainer, self.out, self.name, self.about = trainer, out, name, about
        self.kept = kept  # called when a checkpoint was written
        self.folder = out / "training"
        self.recent: deque[dict[str, float]] = deque(maxlen=STEPS_BETWEEN_LINES)
        self.writes = jax.process_index() == 0

    def restore(self) -> None:
        """Goes on from the checkpoint in `out`, where there is one."""
        if (path := self.folder / STATE_FILE).exists():
            restore_state(path, self.trainer)

    def train(self) -> TokenizerCard:
        """Runs to the last step and returns the card of what it left.

        Raises:
            UserError: the loss is no number, or the codebook is lost; the last good checkpoint stays.
        """
        first, total = self.trainer.step, self.trainer.config.steps
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "metrics.jsonl"
        if self.writes:
            _forget_after(log, first)
        with track("training", total - first, "steps") as progress, closing(self.trainer.run()) as steps:
            before: Figures | None = None  # of the step before: reading the newest would wait for it
            for step, figures in enumerate(steps, start=first + 1):
                if before is not None:
                    self._note(step - 1, before, log, progress)
                before = figures
                if step % STEPS_BETWEEN_EXPORTS == 0 or step == total:
                    self._note(step, figures, log, progress)
                    before = None
                    self._keep(step, log)
        return load_card(self.out)

    def _note(self, step: int, figures: Figures, log: Path, progress: Track) -> None:
        """Checks the figures of a step and writes their means now and then."""
        values = {name: float(value) for name, value in figures.items()}
        self._check(step, values)
        self.recent.append(values)
        mean = means(self.recent)
        used = f", {mean['usage']:.0%} of the codes in use" if "usage" in mean else ""
        progress.advance(note=f"PSNR {mean['psnr']:.2f} dB{used}")
        if step % STEPS_BETWEEN_LINES == 0 and self.writes:
            _append(log, {"step": step, **mean})

    def _check(self, step: int, values: dict[str, float]) -> None:
        config, wrong = (
            self.trainer.config,
            [name for name, value in values.items() if math.isnan(value) or value == -math.inf],
        )
        if wrong:
            raise UserError(
                f"step {step}: {', '.join(sorted(wrong))} is no number, the run has diverged; {self._checkpoint()}. "
                f"Lower the rate (--learning-rate, now {config.learning_rate:g}) or the weights of the losses, and "
                "name another --out"
            )
        if values.get("poor", 0) >= config.patience:
            raise UserError(
                f"step {step}: the codebook is lost: {values['usage']:.1%} of {config.network.codebook_size} codes in "
                f"use (perplexity {values['perplexity']:.1f}), below {config.min_usage:.0%} for {config.patience} "
                f"steps; {self._checkpoint()}. Lower --learning-rate (now {config.learning_rate:g}) or "
                "--codebook-size, raise --batch-size, or train on more varied pictures, and name another --out"
            )

    def _checkpoint(self) -> str:
        path = self.folder / STATE_FILE
        if not path.exists():
            return "no checkpoint was written yet"
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            return f"the last good checkpoint, {path}, is of step {int(file.get_tensor('.step'))}"

    def _keep(self, step: int, log: Path) -> None:
        """Writes the tokenizer so far and the checkpoint, unless the codebook is being lost."""
        if int(self.trainer.state.poor) and step < self.trainer.config.steps:
            return
        if self.writes:
            _append(log, {"step": step, "held_out": self._export()})
            save_state(self.folder / STATE_FILE, self.trainer)
            self.kept()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"step {step} is written")

    def _export(self) -> dict[str, Any]:
        """Writes the tokenizer so far and sheets of round trips; returns figures on held-out photos and renderings."""
        trainer, config, found = self.trainer, self.trainer.config, {}
        facts = {
            **self.about,
            "recipe": recipe_text(config),
            "trained for": f"{trainer.step} of {config.steps} steps",
            "pictures": trainer.pictures.describe(),
        }
        model = trainer.model()
        save(self.out, model, name=self.name, preset=config.preset, about=facts)
        tokenizer = load(self.out)
        for kind, exact in (("photos", False), ("renderings", True)):
            squares = trainer.pictures.held_out(exact=exact)
            if len(squares):
                found[kind] = self._judge(tokenizer, squares)
                facts[f"held-out {kind}"] = ", ".join(_readable(found[kind]))
                round_trip_sheet(tokenizer, squares[:32]).save(self.folder / f"{kind}.png")
        save(self.out, model, name=self.name, preset=config.preset, about=facts)
        return found

    def _judge(self, tokenizer: Tokenizer, squares: np.ndarray) -> dict[str, float | int]:
        quality = dataclasses.asdict(judge(tokenizer, squares))
        if self.trainer.perceptual is not None:
            again = tokenizer.decode(tokenizer.encode(squares))
            quality["lpips"] = mean_distance(self.trainer.perceptual, squares, again)
        return quality


def means(recent: Collection[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each figure of the newest step, over the steps that have it."""
    newest = list(recent)[-1]
    columns = {name: [values[name] for values in recent if name in values] for name in newest}
    return {name: sum(column) / len(column) for name, column in columns.items()}


def recipe_text(config: TrainConfig) -> str:
    """Returns the recipe, its seed, and what was changed in it, for the card."""
    plain = RECIPES[config.recipe]()
    ours, theirs = ({**dataclasses.asdict(c), "seed": 0, "perceptual": "", "max_pictures": 0} for c in (config, plain))
    changed = [
        f"network.{name} {value}" for name, value in ours.pop("network").items() if value != theirs["network"].get(name)
    ]
    changed += [f"{name} {value}" for name, value in ours.items() if value != theirs[name]]
    text = f"visent tokenizer train, recipe {config.recipe}, seed {config.seed}"
    return text + (f"; changed: {', '.join(changed)}" if changed else "")


def _readable(quality: dict[str, float | int]) -> list[str]:
    texts = [f"PSNR {quality['psnr']:.2f} dB", f"{quality['usage']:.0%} of the codes in use"]
    return texts + ([f"LPIPS-style distance {quality['lpips']:.3f}"] if "lpips" in quality else [])


def _append(log: Path, values: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def _forget_after(log: Path, step: int) -> None:
    """Drops the figures of steps that a stopped run had done after its checkpoint: they are done again."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")
