"""`visent manifest lock`."""

import click

from manifests.commands.options import JSON, PATH


@click.command("lock", short_help="Resolve a manifest into what a run reads.")
@PATH
@JSON
@click.option("--out", metavar="FILE", help="The lock to write; default: manifest.lock.json beside manifest.toml.")
def lock_command(path: str, as_json: bool, out: str | None) -> None:
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
