"""`visent manifest init`."""

import click

from manifests.commands.options import JSON


@click.command("init", short_help="Write a manifest for finished datasets, by a recipe.")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--out", default="manifest.toml", show_default=True, metavar="FILE", help="The manifest to write.")
@click.option("--recipe", default="lvm-lite", show_default=True, metavar="NAME",
              help="Tasks, stages and shares: "
                   "continual, delvm, delvm-tasks, lvm, lvm-lite, pascal-5i or video-64.")  # fmt: skip
@JSON
@click.option("--overwrite", is_flag=True, help="Replace a manifest that is there.")
def init_command(datasets: tuple[str, ...], out: str, recipe: str, as_json: bool, overwrite: bool) -> None:
    """Write a commented manifest for finished datasets, with the tasks that a recipe has for them.

    A dataset serves the tasks of the recipe that name its source, or its own name, and its roles; one that the recipe
    does not name gets the usual tasks of its roles. Tasks that lack a dataset stand in the manifest as comments, with
    the command that makes it.

    \b
    Example:
      visent manifest init corpus/photos corpus/clips corpus/depth --out manifest.toml --recipe lvm-lite
    """
    import json

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
    if as_json:
        click.echo(json.dumps({"manifest": out, **report.to_json()}, indent=1))
        return
    console().print(report_table(report))
    console().print(f"\nWrote {out}. Edit it, then: visent manifest show {out}")
    if lacking := text.count("\n# [tasks."):
        console().print(f"{lacking} tasks of the recipe lack a dataset: the end of {out} says what makes them.")
