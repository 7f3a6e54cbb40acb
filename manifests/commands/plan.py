"""`visent manifest plan`."""

import click


@click.command("plan", short_help="Show the work that missing views are.")
@click.argument("path", metavar="[MANIFEST]", default="manifest.toml")
@click.option("--rate", type=float, metavar="IMAGES/S", help="In place of what tokenize reached here last.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of a table.")
def plan_command(path: str, rate: float | None, as_json: bool) -> None:
    """Show what `visent tokenize --views-from MANIFEST` would do: images, codes, bytes and time of the missing views.

    \b
    Example:
      visent manifest plan manifest.toml --rate 1500
    """
    import json

    from rich.table import Table

    from manifests import balance, tables
    from manifests.manifest import load
    from manifests.missing import missing_views
    from visent.errors import UserError

    if rate is not None and not rate > 0:
        raise UserError(f"--rate is {rate}; expected images per second above 0")
    manifest = load(path)
    works = missing_views(manifest, balance.load_all(manifest), rate)
    if as_json:
        click.echo(json.dumps([work.to_json() for work in works], indent=1))
        return
    if not works:
        click.echo(f"{path}: every view that it reads is there")
        return
    table = Table("dataset", box=None, header_style="bold", pad_edge=False)
    for name in ("views", "examples", "images", "codes", "bytes", "images/s", "time"):
        table.add_column(name, justify="right")
    for work in works:
        speed = f"{work.images_per_second:,.1f}" if work.images_per_second else "give --rate"
        amounts = (tables.si(float(work.codes)), tables.si(float(work.bytes)) + "B", speed, _time(work.seconds))
        table.add_row(
            work.dataset, f"{work.views_made} → {work.views}", f"{work.examples:,}", f"{work.images:,}", *amounts
        )
    tables.console().print(table)
    click.echo(f"\nTo make them: visent tokenize --views-from {path}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
