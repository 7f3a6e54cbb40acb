"""The `visent` command: finds each command in its package and loads it only when it is called."""

import importlib
import os
import sys
from typing import NoReturn

import click

from visent import __version__
from visent.compilation_cache import keep_compiled
from visent.errors import UserError, unknown

# name -> (module, attribute, one line of help); the help stands here so that `visent --help` imports nothing else.
COMMANDS = {
    "tokenize": ("pipelines.cli", "tokenize", "Turn images, videos and annotated sets into shards of tokens."),
    "plan": ("pipelines.cli", "plan", "Say what tokenize would take: hours, bytes, shards, cost."),
    "sources": ("pipelines.cli", "sources", "List the datasets and layouts that tokenize reads."),
    "status": ("pipelines.commands.status", "status", "Show how far datasets are, also while a job runs."),
    "verify": ("pipelines.cli", "verify", "Check every shard of a dataset against its facts."),
    "diff": ("manifests.commands.corpora", "diff", "Compare two datasets or corpora: keys, codes, rejects."),
    "show": ("pipelines.cli", "show", "Draw rows or visual sentences as a contact sheet."),
    "pixels": ("pipelines.commands.pixels", "pixels", "Write the pictures behind a dataset's codes, to judge against."),
    "report": ("pipelines.commands.report", "report", "Write a report on a dataset: samples, rejects, codes, speed."),
    "manifest": ("manifests.cli", "manifest", "Write, show, balance and lock a manifest."),
    "lineage": ("manifests.commands.lineage", "lineage", "Show which rows a step read, and which steps read a key."),
    "export": ("manifests.exchange.commands", "export", "Write a corpus as LVM's, DeLVM's, Parquet or for the Hub."),
    "import": ("manifests.exchange.commands", "import_", "Make a dataset of token files of LVM or DeLVM."),
    "tokenizer": ("tokenizer.cli", "tokenizer", "Train, inspect and judge tokenizers."),
    "train": ("trainer.commands.train", "train", "Train a model on the shards that a lock names."),
    "teacher": ("trainer.commands.teacher", "teacher", "Write what a model predicts, for students to learn from."),
    "classify": ("trainer.commands.classify", "classify", "Classify pictures with a trained model's layers."),
    "evaluate": ("trainer.commands.evaluate", "evaluate", "Score a trained model on held-out sentences."),
    "generate": ("trainer.commands.generate", "generate", "Generate images that continue a prompt."),
    "model": ("trainer.commands.model", "model", "Models to and from Hugging Face's Llama; show what one is."),
    "demo": ("visent.demo.cli", "demo", "Run everything on real media, small, and write a report."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command, or says which one was probably meant."""
        if cmd_name not in COMMANDS:
            raise click.UsageError(str(unknown("command", cmd_name, COMMANDS)), ctx)
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="visent")
def visent() -> None:
    """Turn media into visual sentences, balance their tasks, and train on them.

    \b
    Example:
      visent tokenize folder photos/ --out corpus/photos
      visent manifest init corpus/photos --out manifest.toml
      visent train tiny --manifest manifest.toml --out run/
      visent generate run/ --task photos --out pictures/
    """


def main() -> None:
    """Runs the command line; an error of the user's becomes one line on standard error.

    The exit status is 1 for a `UserError`, 2 for a command line that makes no sense, 130 where the user stopped it.
    """
    keep_compiled()
    try:
        status = visent.main(
            prog_name="visent", standalone_mode=False
        )  # of a Context.exit; else what a command returns
        sys.exit(status if isinstance(status, int) else 0)
    except UserError as error:
        if os.environ.get("VISENT_TRACEBACK"):
            raise
        _stop(str(error), 1)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "visent"
        _stop(f"{error.format_message().rstrip('.')}; `{command} --help` says what there is", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _stop("stopped", 130)


def _stop(message: str, status: int) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(status)
