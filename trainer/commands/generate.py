"""`visent generate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from visent.errors import UserError
from visent.staging import brought, is_url, shown, staged

if TYPE_CHECKING:
    from tokenizer.tokenizer import Tokenizer
    from trainer.prompts import Prompts
    from trainer.sampling import TrainedRun

KINDS = ("task", "prompt", "pair", "clip", "top_half")  # of prompts; "free" is none of them
BELONGS = {  # options to the prompts that they are for
    "split": ("task",),
    "shots": ("task",),
    "prompt_images": ("task",),
    "query": ("task", "pair"),
    "images": ("prompt", "free"),
    "frames_in": ("clip",),
    "frames_out": ("clip",),
    "start": ("clip",),
    "fps": ("clip", "task"),
    "video": ("clip", "task"),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder for the pictures.")
@click.option("--task", help="Task of the manifest whose held-out sentences are prompts.")
@click.option("--split", default="val", show_default=True, help="Split that the sentences of --task come from.")
@click.option("--shots", type=int, help="Whole examples before the last one of --task [default: as many as fit].")
@click.option("--prompt-images", type=int, help="Images of each sentence of --task that are given [default: by task].")
@click.option("--prompt", multiple=True, type=click.Path(), help="Your own image; may be repeated, in order.")
@click.option("--images", default=1, show_default=True, type=click.IntRange(1),
              help="Images to generate after --prompt, or from nothing.")  # fmt: skip
@click.option("--pair", multiple=True, nargs=2, type=click.Path(), metavar="A B",
              help="Your own example of a task: an image and what becomes of it; may be repeated.")  # fmt: skip
@click.option(
    "--query", multiple=True, type=click.Path(), help="Your own image after the examples of --pair or --task."
)
@click.option("--clip", type=click.Path(), help="Your own video: its first frames are given.")
@click.option("--frames-in", default=5, show_default=True, type=click.IntRange(1), help="Frames of --clip given.")
@click.option("--frames-out", default=11, show_default=True, type=click.IntRange(1), help="Frames to generate.")
@click.option("--fps", default=5.0, show_default=True, type=click.FloatRange(0, 1000, min_open=True),
              help="Frames a second that are taken of --clip, and at which clips are played.")  # fmt: skip
@click.option("--start", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds of --clip left out.")
@click.option("--top-half", multiple=True, type=click.Path(), help="Your own image: its lower half is generated.")
@click.option("--count", default=4, show_default=True, type=click.IntRange(1), help="Samples, of each prompt.")
@click.option("--top-k", default=100, show_default=True, help="Draw among this many likeliest codes.")
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the likeliest code.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--batch", type=int, help="Samples decoded together [default: 4 on a CPU, 16 on each GPU or TPU].")
@click.option("--video", default="mp4", show_default=True, type=click.Choice(["gif", "mp4"]), help="Form of clips.")
@click.option("--tokenizer", default="default", show_default=True, help="Tokenizer name or folder.")
@click.pass_context
@staged(reads=("prompt", "query", "clip", "top_half"), writes=("out",))
def generate(ctx: click.Context, /, run: str, out: Path, **options: Any) -> None:
    """Generate images that continue a prompt, with the model that RUN trained.

    With --task, prompts are the first images of sentences that the model has not seen, and pictures end with the truth.
    All others are your own files, made square as the tokenizer's preset says; without any prompt, images come from
    nothing.

    \b
    Example:
      visent generate run/ --task edge --shots 3 --out pictures/
      visent generate run/ --task edge --query photo.jpg --out pictures/       held-out pairs, your question
      visent generate run/ --pair a.jpg a-edges.png --query b.jpg --out pictures/
      visent generate run/ --prompt a.jpg --prompt b.jpg --images 2 --out pictures/
      visent generate run/ --clip walk.mp4 --fps 4 --video gif --out pictures/    5 frames given, 11 generated
      visent generate run/ --top-half face.jpg --count 8 --out pictures/
      visent generate run/ --count 64 --batch 64 --out pictures/

    Writes into --out: for each sample a strip (prompt | generated | truth), and what was generated alone, as PNG in
    images/ or as a clip; sheet.png with all strips; and generated.json with codes and settings.
    """
    kind = _kind(ctx, options)
    from trainer import sampling
    from trainer.generate import Sampling

    how = Sampling(top_k=options["top_k"], temperature=options["temperature"], seed=options["seed"])
    trained = sampling.load_run(run)
    codec = sampling.load_tokenizer(options["tokenizer"], trained.lock)
    given = _prompts(kind, options, trained, codec)
    samples = sampling.write_samples(trained, given, codec, how, out, video=options["video"], batch=options["batch"])
    _show_samples(samples, out)


def _kind(ctx: click.Context, options: Mapping[str, Any]) -> str:
    """Returns which prompt is asked for, and refuses options that are for another."""
    asked = [kind for kind in KINDS if options[kind]]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(map(_flag, asked))}: generate takes one kind of prompt at a time")
    kind = asked[0] if asked else "free"
    for name, kinds in BELONGS.items():
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT and kind not in kinds:
            fits = " or ".join(_flag(kind) if kind != "free" else "no prompt" for kind in kinds)
            raise UserError(f"{_flag(name)} goes with {fits}, not with {_flag(kind) if asked else 'no prompt'}")
    if kind == "pair" and len(options["query"]) != 1:
        raise UserError(f"--pair needs one --query, the image that is to be answered; got {len(options['query'])}")
    return kind


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _prompts(kind: str, options: Mapping[str, Any], run: "TrainedRun", codec: "Tokenizer") -> "Prompts":
    from dataclasses import replace

    from manifests.corpus import Corpus
    from trainer import own_pictures, own_prompts
    from trainer.prompts import from_task

    count, context = options["count"], run.context
    own = {name: [str(path) for path in options[name]] for name in ("prompt", "query", "top_half")}
    if kind == "task":
        query = own_pictures.of_files(own["query"], codec) if own["query"] else None
        corpus, stages = Corpus(run.lock, split=options["split"]), list(run.config.stages)
        found = from_task(corpus, stages, options["task"], count, prompt_images=options["prompt_images"],
                          shots=options["shots"], query=query, seed=options["seed"])  # fmt: skip
        return replace(found, fps=options["fps"])
    if kind == "prompt":
        return own_prompts.from_files(own["prompt"], count, options["images"], codec, context)
    if kind == "pair":
        pairs = [(_local(first), _local(second)) for first, second in options["pair"]]
        return own_prompts.from_pairs(pairs, own["query"][0], count, codec, context)
    if kind == "clip":
        return own_prompts.from_clip(str(options["clip"]), count, options["frames_in"], options["frames_out"], codec,
                                     context, fps=options["fps"], start=options["start"])  # fmt: skip
    if kind == "top_half":
        return own_prompts.from_top_halves(own["top_half"], count, codec)
    return own_prompts.nothing(count, options["images"], run.lock.card.tokens_per_image, context)


def _local(picture: str) -> str:
    """Returns a file, or a copy of one at a URL, which goes when the command ends."""
    return str(click.get_current_context().with_resource(brought(picture))) if is_url(picture) else picture


def _show_samples(samples: list[dict[str, Any]], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("picture", "images of the sentence", "codes equal to the truth")
    for sample in samples:
        same = sample["same_codes_as_truth"]
        table.add_row(sample["picture"], ", ".join(sample["images"]), "-" if same is None else f"{same:.1%}")
    console = Console()
    console.print(table)
    console.print(f"pictures: {shown(out)}, all of them in {shown(out / 'sheet.png')}", soft_wrap=True)
