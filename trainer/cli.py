"""The commands `visent train` and `visent generate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from visent.errors import UserError

if TYPE_CHECKING:
    from trainer.config import RunConfig


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recipe")
@click.option("--manifest", "-m", required=True, help="manifest.toml, or a manifest.lock.json to read as it stands.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the run; resumes what is there."
)
@click.option("--model", help="tiny, 80m, 300m, 600m, 1b or 3b; by default the recipe's own.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one setting; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Print the settings and what the run takes, and stop.")
@click.option("--allow-other-lock", is_flag=True, help="Go on from a checkpoint although the data changed.")
@click.option("--allow-other-settings", is_flag=True, help="Go on although a stage's settings changed.")
def train(
    recipe: str,
    manifest: str,
    out: Path | None,
    model: str | None,
    changes: tuple[str, ...],
    dry_run: bool,
    allow_other_lock: bool,
    allow_other_settings: bool,
) -> None:
    """Train a model on the shards that a manifest names.

    RECIPE is lvm-lite (the paper's two stages) or tiny (both stages in minutes on a laptop). The same command again
    resumes from the newest checkpoint in --out, with exactly the batches that were left.

    \b
    Example:
      visent train tiny --manifest manifest.toml --out run/
      visent train lvm-lite -m manifest.toml --model 300m --dry-run
      visent train tiny -m manifest.toml --out run/ --set stages.images.steps=300 --set model.layers=6

    Writes config.json, manifest.lock.json, metrics.jsonl, eval.jsonl and checkpoints/ into --out.
    """
    from trainer import overrides, plan, recipes

    config = overrides.apply(recipes.make(recipe, model), changes)
    lock = plan.read_lock(manifest)
    config = plan.fit(config, lock)
    if dry_run:
        _show_plan(config)
        return
    if out is None:
        raise UserError("train needs a folder to write to: pass --out RUN, or --dry-run to only look")
    from trainer import loop

    lines = loop.train(config, lock, out, allow_other_lock=allow_other_lock, allow_other_settings=allow_other_settings)
    _show_evaluations(lines, out)


def _show_plan(config: "RunConfig") -> None:
    from rich.console import Console
    from rich.table import Table

    from trainer.plan import costs

    console = Console()
    console.print_json(json.dumps(config.to_json()))
    table = Table("stage", "context", "steps", "tokens/step", "TFLOP/step", "tokens", "TFLOP")
    for name, cost in costs(config).items():
        teraflops = cost.flops_per_step / 1e12
        per_step = cost.context * cost.batch_sentences
        numbers = (cost.context, cost.steps, per_step, teraflops, cost.tokens, teraflops * cost.steps)
        table.add_row(name, *(f"{n:,.4g}" if isinstance(n, float) else f"{n:,}" for n in numbers))
    console.print(table)
    console.print(f"model {config.model.name}: {config.model.parameters:,} parameters")


def _show_evaluations(lines: list[dict[str, Any]], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "task", "sentences", "loss", "perplexity", "accuracy", title="held-out, at each stage's end")
    last = {line["stage"]: line for line in lines}
    for stage, line in last.items():
        for task, score in line["per_task"].items():
            table.add_row(stage, task, f"{score['sentences']}", f"{score['loss']:.3f}", f"{score['perplexity']:,.1f}",
                          f"{score['accuracy']:.1%}")  # fmt: skip
        for task in line["without_heldout"]:
            table.add_row(stage, task, "none", "-", "-", "-")
    console = Console()
    console.print(table)
    console.print(f"run: {out}")


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
