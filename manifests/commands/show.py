"""`visent manifest show`."""

import click

from manifests.commands.options import JSON, PATH, PLAN, plans_of


@click.command("show", short_help="Show what a manifest means, task by task.")
@PATH
@PLAN
@JSON
@click.option("--plot", "plot_path", metavar="FILE.png", help="Draw shares and epochs as a picture.")
def show_command(path: str, plans: tuple[str, ...], as_json: bool, plot_path: str | None) -> None:
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
