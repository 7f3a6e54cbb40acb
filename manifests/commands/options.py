"""Options that several commands have."""

import click

PATH = click.argument("path", metavar="[MANIFEST]", default="manifest.toml")
PLAN = click.option(
    "--sentences",
    "plans",
    multiple=True,
    metavar="STAGE=N",
    help="Planned sentences of a stage, in place of the manifest's; may be repeated.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of tables.")


def plans_of(plans: tuple[str, ...]) -> dict[str, float]:
    """Reads STAGE=N options."""
    result: dict[str, float] = {}
    for plan in plans:
        stage, _, number = plan.partition("=")
        if not stage or not number.replace("_", "").isdigit() or int(number) < 1:
            raise click.BadParameter(f"{plan!r}; expected STAGE=N, as sequences=100000", param_hint="--sentences")
        result[stage] = float(number)
    return result
