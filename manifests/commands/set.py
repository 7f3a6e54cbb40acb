"""`visent manifest set`."""

import click


@click.command("set", short_help="Set values; comments and order stay.")
@click.argument("arguments", nargs=-1, required=True, metavar="[MANIFEST] KEY=VALUE...")
@click.option("--stage", help="The stage that tasks.NAME.share means; all that read the task without it.")
@click.option("--json", "as_json", is_flag=True, help="Print the new shares as JSON in place of a table.")
def set_command(arguments: tuple[str, ...], stage: str | None, as_json: bool) -> None:
    """Set values of a manifest; its comments and order stay, and what would be no manifest is refused.

    tasks.NAME.share=PART gives a task that part of each stage that reads it; the others keep their ratios.

    \b
    Example:
      visent manifest set manifest.toml tasks.pose.share=0.2
      visent manifest set datasets.depth.views=4 'tasks.clips.frames.stride=[1, 8]' balance.max_epochs=2
    """
    import json

    from manifests import balance, files, tables
    from manifests.assign import assign
    from manifests.manifest import load, parse_text

    path = arguments[0] if "=" not in arguments[0] else "manifest.toml"
    load(path)
    old = files.read_bytes(path).decode()
    new = assign(old, path, [argument for argument in arguments if argument != path], stage)
    manifest = parse_text(new, path)
    report = balance.analyse(manifest, balance.load_all(manifest))
    if new != old:
        files.write_bytes(path, new.encode())
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
        return
    tables.console().print(tables.report_table(report))
    click.echo(f"\nWrote {path}." if new != old else f"\n{path} says so already.")
