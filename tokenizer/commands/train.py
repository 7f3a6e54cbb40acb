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
@click.option(
    "--renderings",
    multiple=True,
    metavar="FOLDER=SHARE",
    help="Pictures whose colours are labels (masks, poses, depth) and their share of the crops. Repeatable.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the tokenizer.")
@click.option("--steps", type=click.IntRange(min=2), help="Training steps instead of the recipe's 4500.")
@click.option("--holdout", type=click.IntRange(min=0), help="Pictures of each kind kept to judge by, instead of 40.")
@click.option("--seed", type=int, help="Another start and other crops, instead of 0.")
@click.option("--name", help="Name on the card; default: the folder's name.")
@click.option("--about", multiple=True, metavar="KEY=TEXT", help="A line for the card: sources, licence. Repeatable.")
def train(
    folders: tuple[Path, ...],
    renderings: tuple[str, ...],
    out: Path,
    name: str | None,
    about: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train a small tokenizer on the photos below FOLDERS, and on renderings of annotations.

    This is the recipe of the tokenizer that ships with visent: about an hour on two CPU cores. Every 500 steps the
    tokenizer so far, its figures on held-out pictures and a sheet of round trips are written to --out. A stopped run
    goes on from there when the same command is given again.

    A model that is to read and draw masks, poses or depth maps needs a tokenizer that knows such pictures: without
    renderings their colours come back washed out. Renderings are resized without mixing colours.

    \b
    Example:
      visent tokenizer train photos/ --out my-tokenizer --about licence="CC BY 2.0"
      visent tokenizer train photos/ --renderings masks/=0.2 --renderings poses/=0.1 --out my-tokenizer
      visent tokenize folder photos/ --tokenizer my-tokenizer --out corpus/photos
    """
    from tokenizer.training.config import default_recipe
    from tokenizer.training.pictures import Pictures
    from tokenizer.training.resume import restore_state
    from tokenizer.training.train import Trainer
    from visent.errors import UserError

    lines, mixed = _about(about), _renderings(renderings)
    changed = {key: value for key, value in changes.items() if value is not None}
    config = default_recipe(rendering_shares=tuple(share for _, share in mixed), **changed)
    trainer = Trainer(config, Pictures(config, folders, mixed))
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


def _renderings(texts: tuple[str, ...]) -> list[tuple[Path, float]]:
    from visent.errors import UserError

    pairs = []
    for text in texts:
        folder, _, share = text.rpartition("=")
        try:
            pairs.append((Path(folder), float(share)))
        except ValueError:
            folder = ""
        if not folder:
            raise UserError(f"--renderings {text!r}: expected FOLDER=SHARE, for example --renderings masks/=0.2")
    return pairs


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


def _export(trainer: "Trainer", out: Path, name: str, about: dict[str, str]) -> dict[str, Any]:
    """Writes the tokenizer so far and sheets of round trips; returns its figures on held-out photos and renderings."""
    import dataclasses

    from tokenizer.checkpoints.folder import save
    from tokenizer.load import load
    from tokenizer.quality import judge, round_trip_sheet

    config, figures = trainer.config, {}
    facts = {
        **about,
        "recipe": f"tokenizer.training.config.default_recipe, seed {config.seed}",
        "trained for": f"{trainer.step} of {config.steps} steps",
        "pictures": trainer.pictures.describe(),
    }
    model = trainer.model()
    save(out, model, name=name, preset=config.preset, about=facts)
    tokenizer = load(out)
    for kind, exact in (("photos", False), ("renderings", True)):
        squares = trainer.pictures.held_out(exact=exact)
        if len(squares):
            quality = judge(tokenizer, squares)
            figures[kind] = dataclasses.asdict(quality)
            facts[f"held-out {kind}"] = f"PSNR {quality.psnr:.2f} dB, {quality.usage:.0%} of the codes in use"
            round_trip_sheet(tokenizer, squares[:32]).save(out / "training" / f"{kind}.png")
    save(out, model, name=name, preset=config.preset, about=facts)
    return figures
