"""`visent model`: trained models to and from Hugging Face's Llama."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from visent.staging import brought, is_url, shown, staged

CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=CONTEXT)
def model() -> None:
    """Write a model for transformers, read one of transformers, or show what one is.

    \b
    Example:
      visent model export run/ --out llama/
      visent model import llama/ --manifest manifest.toml --out imported/
      visent model show llama/
    """


@model.command(context_settings=CONTEXT)
@click.argument("run")
@click.option("--out", required=True, type=click.Path(), help="Folder to write.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
              help="Of the numbers; float32 loses nothing.")  # fmt: skip
@click.option("--file-gb", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True,
              help="Largest file; a larger model has several and an index.")  # fmt: skip
@staged(writes=("out",))
def export(run: str, out: Path, dtype: str, file_gb: float) -> None:
    """Write the newest checkpoint of RUN as a folder that transformers loads as LlamaForCausalLM.

    Beside config.json and the safetensors files, README.md says what to feed the model, and generation_config.json
    keeps special tokens from being drawn. A codebook embedding is written as the table that it amounts to.

    \b
    Example:
      visent model export run/ --out llama/
      visent model export gs://bucket/run --out llama/ --dtype bfloat16
    """
    from trainer.exchange import exporting
    from trainer.run_folder import open_run

    found = open_run(run)
    exporting.export(found, out, dtype, int(file_gb * 1e9))
    _show(_folder_facts(out))


@model.command("import", context_settings=CONTEXT)
@click.argument("folder", type=click.Path())
@click.option("--manifest", "-m", required=True, help="Of shards whose codes the model knows: .toml, or a lock .json.")
@click.option("--out", required=True, help="Folder of the run to write, or gs://...")
@click.option("--begin", default="auto", show_default=True, metavar="auto|none|TOKEN",
              help="Token that begins sentences. auto: the folder's bos_token_id, if it is no code.")  # fmt: skip
@staged(reads=("folder",))
def import_(folder: Path, manifest: str, out: str, begin: str) -> None:
    """Make a run of FOLDER, a Llama of transformers over codes of images, such as LVM's public checkpoints.

    The run is at step 0 and cannot be resumed, but `visent generate`, `visent evaluate`, `visent train --from` and
    distillation take it as any other. The vocabulary's first tokens are the codes of the manifest's tokenizer. A folder
    that visent wrote is refused where its tokenizer was another; of others nobody can tell.

    \b
    Example:
      hf download Emma02/LVM_ckpts --local-dir lvm/
      visent model import lvm/ --manifest manifest.toml --out lvm-run/
      visent generate lvm-run/ --task edge --out pictures/
    """
    from trainer.exchange import importing
    from trainer.plan import read_lock

    opened = importing.open_folder(folder)
    config = importing.import_folder(opened, read_lock(manifest), out, begin)
    _show(_run_facts(out))
    longest = max(stage.context or 0 for stage in config.stages.values())
    if longest > opened.settings.positions:
        click.echo(f"note: the manifest's sentences have up to {longest} codes, the model was made for inputs of "
                   f"{opened.settings.positions} tokens", err=True)  # fmt: skip


@model.command(context_settings=CONTEXT)
@click.argument("what", metavar="RUN | FOLDER")
def show(what: str) -> None:
    """Show what the model of a run, or of a folder of transformers, is.

    \b
    Example:
      visent model show run/
      visent model show llama/
    """
    from manifests import files

    if files.exists(files.join(what, "checkpoints")):
        _show(_run_facts(what))
        return
    with brought(what) if is_url(what) else nullcontext(Path(what)) as folder:
        _show(_folder_facts(folder) | {"folder": what})


def _run_facts(root: str) -> dict[str, Any]:
    from trainer.exchange.exporting import positions
    from trainer.run_folder import open_run

    run = open_run(root)
    model, card = run.config.model, run.lock.card
    return {
        "run": root,
        "recipe": f"{run.config.recipe}, step {run.step}",
        **_sizes(model.hidden, model.mlp, model.heads, model.layers),
        "tokens": f"{model.codebook_size:,} codes, {model.special_tokens} special",
        "sentences begin with": "their first code" if model.begin is None else f"token {model.begin}",
        "embedding": model.embedding,
        "longest input": f"{positions(run):,} tokens",
        "rope theta, norm epsilon": f"{model.rope_theta:g}, {model.norm_epsilon:g}",
        "trained parameters": f"{model.parameters:,}",
        "tokenizer": f"{card.name}, {card.fingerprint}",
    }


def _folder_facts(path: Path) -> dict[str, Any]:
    from trainer.exchange.importing import open_folder

    folder = open_folder(path)
    settings, tokenizer = folder.settings, folder.settings.ours.get("tokenizer", {})
    names = {one.file for one in folder.stored.values()}
    return {
        "folder": shown(path),
        **_sizes(settings.hidden, settings.mlp, settings.heads, settings.layers),
        "tokens": f"{settings.vocabulary:,}",
        "bos_token_id": "none" if settings.begin is None else str(settings.begin),
        "embedding": "tied to the output" if settings.tied else "learned",
        "longest input": f"{settings.positions:,} tokens",
        "rope theta, norm epsilon": f"{settings.rope_theta:g}, {settings.norm_epsilon:g}",
        "parameters": f"{sum(tensor.size for tensor in folder.wanted):,}",
        "stored as": "+".join(sorted({one.dtype for one in folder.stored.values()})),
        "files": f"{len(names)}, {sum(name.stat().st_size for name in names) / 1e9:.3g} GB",
        "tokenizer": f"{tokenizer['name']}, {tokenizer['fingerprint']}" if tokenizer else "not said",
    }


def _sizes(hidden: int, mlp: int, heads: int, layers: int) -> dict[str, str]:
    return {
        "layers": f"{layers} of width {hidden}, feed-forward {mlp}",
        "heads": f"{heads} of {hidden // heads}",
    }


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    (kind, place), *rest = facts.items()
    table = Table(kind, place)
    for name, value in rest:
        table.add_row(name, value)
    Console().print(table)
