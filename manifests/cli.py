"""Commands on manifests."""

import click

from manifests.commands.balance import balance_command
from manifests.commands.check import check_command
from manifests.commands.diff import diff_command
from manifests.commands.options import JSON, PATH, PLAN, plans_of
from manifests.commands.plan import plan_command
from manifests.commands.set import set_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def manifest() -> None:
    """Write, show, balance and lock a manifest: which tasks are read, and in which shares.

    \b
    Example:
      visent manifest init corpus/photos corpus/depth --out manifest.toml
      visent manifest show manifest.toml
      visent manifest balance manifest.toml
      visent tokenize --views-from manifest.toml
      visent manifest lock manifest.toml
    """


@manifest.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--out", default="manifest.toml", show_default=True, metavar="FILE", help="The manifest to write.")
@click.option("--recipe", default="lvm-lite", show_default=True, metavar="NAME",
              help="Tasks, stages and shares: delvm, delvm-tasks, lvm, lvm-lite, pascal-5i or video-64.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a manifest that is there.")
def init(datasets: tuple[str, ...], out: str, recipe: str, overwrite: bool) -> None:
    """Write a commented manifest for finished datasets, with the tasks that a recipe has for them.

    A dataset serves the tasks of the recipe that name its source, or its own name, and its roles; one that the recipe
    does not name gets the usual tasks of its roles. Tasks that lack a dataset stand in the manifest as comments, with
    the command that makes it.

    \b
    Example:
      visent manifest init corpus/photos corpus/clips corpus/depth --out manifest.toml --recipe lvm-lite
    """
    from manifests import files
    from manifests.balance import analyse, load_all
    from manifests.dataset import DatasetFacts, load_facts
    from manifests.manifest import parse_text
    from manifests.tables import console, report_table
    from manifests.write import new_manifest
    from visent.errors import UserError

    if files.exists(out) and not overwrite:
        raise UserError(f"{out} is there already: edit it, name another --out, or give --overwrite")
    found: dict[str, tuple[str, DatasetFacts]] = {}
    for folder in datasets:
        facts = load_facts(folder)
        if facts.name in found:
            raise UserError(f"two datasets are named {facts.name!r}: {found[facts.name][0]} and {folder}; give one of "
                            "them another name when tokenizing")  # fmt: skip
        found[facts.name] = (files.relative(folder, files.parent(out)), facts)
    text = new_manifest(found, recipe)
    manifest = parse_text(text, out)
    report = analyse(manifest, load_all(manifest))
    files.write_bytes(out, text.encode())
    console().print(report_table(report))
    console().print(f"\nWrote {out}. Edit it, then: visent manifest show {out}")
    if lacking := text.count("\n# [tasks."):
        console().print(f"{lacking} tasks of the recipe lack a dataset: the end of {out} says what makes them.")


@manifest.command()
@PATH
@PLAN
@JSON
@click.option("--plot", "plot_path", metavar="FILE.png", help="Draw shares and epochs as a picture.")
def show(path: str, plans: tuple[str, ...], as_json: bool, plot_path: str | None) -> None:
    """Show what a manifest means: rows, views, sentences, tokens, shares, epochs and deficits of each task.

    \b
    Example:
      visent manifest show manifest.toml --sentences sequences=100000 --plot shares.png
    """
    import json

    from manifests import balance, tables
    from manifests.manifest import load

    manifest = load(path)
    report = balance.analyse(manifest, balance.load_all(manifest), plans_of(plans))
    if plot_path:
        tables.plot(report, None, plot_path)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
        return
    out = tables.console()
    out.print(tables.report_table(report))
    out.print()
    out.print(tables.report_bars(report))
    if plot_path:
        out.print(f"Drew {plot_path}")


@manifest.command()
@PATH
@JSON
@click.option("--out", metavar="FILE", help="The lock to write; default: manifest.lock.json beside manifest.toml.")
def lock(path: str, as_json: bool, out: str | None) -> None:
    """Resolve a manifest and its datasets into the lock that a training run reads.

    \b
    Example:
      visent manifest lock manifest.toml
    """
    import json

    from manifests import tables
    from manifests.lock import default_path, resolve, write_lock

    resolved = resolve(path)
    target = out or default_path(path)
    write_lock(target, resolved)
    if as_json:
        click.echo(json.dumps({"lock": target, "digest": resolved.digest}))
        return
    tables.console().print(tables.lock_table(resolved))
    click.echo(f"Wrote {target}, digest {resolved.digest[:16]}")


for command in (balance_command, set_command, check_command, diff_command, plan_command):
    manifest.add_command(command)
