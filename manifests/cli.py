"""Commands on manifests."""

import click

from manifests.commands.balance import balance_command
from manifests.commands.check import check_command
from manifests.commands.diff import diff_command
from manifests.commands.init import init_command
from manifests.commands.lock import lock_command
from manifests.commands.plan import plan_command
from manifests.commands.set import set_command
from manifests.commands.show import show_command


class InOrder(click.Group):
    """Lists the commands in the order of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    init_command,
    show_command,
    set_command,
    balance_command,
    plan_command,
    check_command,
    diff_command,
    lock_command,
):
    manifest.add_command(command)
