"""`visent generate`."""

from pathlib import Path
from typing import Any

import click

from visent.errors import UserError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the pictures.")
@click.option("--task", help="Task of the manifest whose sentences are prompts.")
@click.option("--split", default="val", show_default=True, help="Split that the sentences come from.")
@click.option("--prompt-images", type=int, help="Images of each sentence that are given [default: by task].")
@click.option("--prompt", "files", multiple=True, type=click.Path(), help="Your own image as prompt; may be repeated.")
@click.option(
    "--images", default=1, show_default=True, type=click.IntRange(1), help="Images to generate after --prompt."
)
@click.option("--count", default=4, show_default=True, type=click.IntRange(1), help="Samples.")
@click.option("--top-k", default=100, show_default=True, help="Draw among this many likeliest codes.")
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the likeliest code.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--tokenizer", default="default", show_default=True, help="Tokenizer name or folder.")
def generate(
    run: Path,
    out: Path,
    task: str | None,
    split: str,
    prompt_images: int | None,
    files: tuple[str, ...],
    images: int,
    count: int,
    top_k: int,
    temperature: float,
    seed: int,
    tokenizer: str,
) -> None:
    """Generate images that continue a prompt, with the model that RUN trained.

    With --task, prompts are the first images of sentences that the model has not seen, and the strips end with the
    truth. With --prompt, they are your own files.

    \b
    Example:
      visent generate run/ --task edge --out pictures/
      visent generate run/ --prompt photo.jpg --prompt photo-edges.png --prompt other.jpg --out pictures/

    Writes one PNG for each sample (prompt | generated | truth) and generated.json into --out.
    """
    if (task is None) == (not files):
        raise UserError("generate needs one kind of prompt: --task NAME, or --prompt FILE (once or more)")
    from trainer import prompts, sampling
    from trainer.generate import Sampling

    how = Sampling(top_k=top_k, temperature=temperature, seed=seed)
    trained = sampling.load_run(run)
    codec = sampling.load_tokenizer(tokenizer, trained.lock)
    if task is not None:
        given = prompts.from_task(trained.lock, list(trained.config.stages), task, split, count, prompt_images, seed)
    else:
        given = prompts.from_files(files, count, images, codec, trained.context)
    samples = sampling.write_samples(trained, given, codec, how, out, task or "prompt")
    _show_samples(samples, out)


def _show_samples(samples: list[dict[str, Any]], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("picture", "images of the sentence", "codes equal to the truth")
    for sample in samples:
        same = sample["same_codes_as_truth"]
        table.add_row(sample["picture"], ", ".join(sample["images"]), "-" if same is None else f"{same:.1%}")
    console = Console()
    console.print(table)
    console.print(f"pictures: {out}")
