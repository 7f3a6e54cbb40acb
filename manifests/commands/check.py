"""`visent manifest check`."""

import click


@click.command("check", short_help="Check a manifest against its datasets.")
@click.argument("path", metavar="[MANIFEST]", default="manifest.toml")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of a table.")
def check_command(path: str, as_json: bool) -> None:
    """Check a manifest against its datasets; says everything that is wrong, and exits with 1 when it cannot be locked.

    Datasets exist and are complete, tokenizers agree, roles and views are there, contexts fit, shares add up, and
    each task has rows enough. `visent verify` reads the shards themselves.

    \b
    Example:
      visent manifest check manifest.toml
    """
    import json

    from rich.table import Table

    from manifests import tables
    from manifests.check import check
    from manifests.manifest import load

    findings = check(load(path))
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=1))
    else:
        table = Table("", "where", "what", box=None, header_style="bold", pad_edge=False)
        for finding in findings:
            table.add_row(finding.level, finding.about, finding.message,
                          style="red" if finding.level == "error" else "yellow")  # fmt: skip
        if findings:
            tables.console().print(table)
        click.echo(f"{path}: {errors} errors, {len(findings) - errors} warnings")
    if errors:
        raise SystemExit(1)
