"""`visent tokenizer train`: train a tokenizer on pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.card import print_card

if TYPE_CHECKING:
    from tokenizer.card import TokenizerCard
    from tokenizer.training.train import Trainer

STEPS_BETWEEN_LINES = 50
STEPS_BETWEEN_EXPORTS = 500


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the tokenizer.")
@click.option("--steps", type=click.IntRange(min=2), help="Training steps instead of the recipe's 4500.")
@click.option("--holdout", type=click.IntRange(min=0), help="Pictures kept out to judge by, instead of 40.")
@click.option("--seed", type=int, help="Another start and other crops, instead of 0.")
@click.option("--name", help="Name on the card; default: the folder's name.")
@click.option("--about", multiple=True, metavar="KEY=TEXT", help="A line for the card: sources, licence. Repeatable.")
def train(folders: tuple[Path, ...], out: Path, name: str | None, about: tuple[str, ...], **changes: Any) -> None:
    """Train a small tokenizer on the image files below FOLDERS.

    This is the recipe of the tokenizer that ships with visent: about an hour on two CPU cores. Every 500 steps the
    tokenizer so far, its figures on held-out pictures and a sheet of round trips are written to --out. A stopped run
    goes on from there when the same command is given again.

    \b
    Example:
      visent tokenizer train photos/ --out my-tokenizer --about licence="CC BY 2.0"
      visent tokenize folder photos/ --tokenizer my-tokenizer --out corpus/photos
    """
    from tokenizer.training.pictures import Photos
    from tokenizer.training.resume import restore_state
    from tokenizer.training.train import Trainer, default_recipe
    from visent.errors import UserError

    config = default_recipe(**{key: value for key, value in changes.items() if value is not None})
    lines = _about(about)
    photos = Photos(
        folders,
        size=config.network.image_size,
        preset=config.preset,
        holdout=config.holdout,
        max_pictures=config.max_pictures,
    )
    trainer = Trainer(config, photos)
    if (checkpoint := out / "training" / "state.safetensors").exists():
        restore_state(checkpoint, trainer)
    try:
        card = run_training(trainer, out, name or out.resolve().name, lines)
    except OSError as error:
        raise UserError(f"cannot write the tokenizer to {out}: {error}; free the disk or name another --out") from error
    print_card(card)


def _about(lines: tuple[str, ...]) -> dict[str, str]:
    from visent.errors import UserError

    for line in lines:
        if "=" not in line:
            raise UserError(f"--about {line!r}: expected KEY=TEXT, for example --about licence='CC BY 2.0'")
    return {key: text for key, _, text in (line.partition("=") for line in lines)}


def run_training(trainer: "Trainer", out: Path, name: str, about: dict[str, str]) -> "TokenizerCard":
    """Trains to the last step; writes figures, checkpoints and the tokenizer so far to `out` on the way."""
    import json
    from collections import deque

    from tokenizer.training.resume import save_state
    from visent.progress import track

    recent: deque[dict[str, float]] = deque(maxlen=STEPS_BETWEEN_LINES)
    log = out / "training" / "metrics.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    _forget_after(log, trainer.step)
    total = trainer.config.steps
    with track("training", total - trainer.step, "steps") as progress, log.open("a", encoding="utf-8") as file:
        for step, figures in enumerate(trainer.run(), start=trainer.step + 1):
            recent.append(figures)
            mean = {key: sum(f[key] for f in recent if key in f) / len(recent) for key in figures}
            progress.advance(note=f"PSNR {mean['psnr']:.2f} dB")
            if step % STEPS_BETWEEN_LINES == 0:
                file.write(json.dumps({"step": step, **mean}) + "\n")
                file.flush()
            if step % STEPS_BETWEEN_EXPORTS == 0 or step == total:
                held_out = _export(trainer, out, name, about)
                file.write(json.dumps({"step": step, "held_out": held_out}) + "\n")
                save_state(out / "training" / "state.safetensors", trainer)
    from tokenizer.card import load_card

    return load_card(out)


def _forget_after(log: Path, step: int) -> None:
    """Drops the figures of steps that a stopped run had done after its checkpoint: they are done again."""
    import json

    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")


def _export(trainer: "Trainer", out: Path, name: str, about: dict[str, str]) -> dict[str, float | int]:
    """Writes the tokenizer so far and a sheet of round trips; returns its figures on the held-out pictures."""
    import dataclasses

    from tokenizer.checkpoints.folder import save
    from tokenizer.load import load
    from tokenizer.quality import judge, round_trip_sheet

    photos, config = trainer.photos, trainer.config
    model, preset = trainer.model(), config.preset
    facts = {
        **about,
        "recipe": f"tokenizer.train.default_recipe, seed {config.seed}, step {trainer.step} of {config.steps}",
        "pictures": f"{len(photos.train)} trained on, {len(photos.held_out)} held out, of {photos.found} files",
    }
    save(out, model, name=name, preset=preset, about=facts)
    squares = photos.held_out_squares()
    if not len(squares):
        return {}
    quality = judge(load(out), squares)
    facts["held-out quality"] = f"PSNR {quality.psnr:.2f} dB, {quality.usage:.0%} of the codes in use"
    save(out, model, name=name, preset=preset, about=facts)
    round_trip_sheet(load(out), squares[:32]).save(out / "training" / "round-trips.png")
    return dataclasses.asdict(quality)
