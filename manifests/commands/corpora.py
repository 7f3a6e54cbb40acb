"""`visent diff`."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from manifests.corpora import DatasetDifference


@click.command("diff", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a", metavar="CORPUS_A")
@click.argument("b", metavar="CORPUS_B")
@click.option("--keys", "named", type=click.IntRange(0), default=5, show_default=True, help="Keys named of each kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of tables.")
def diff(a: str, b: str, named: int, as_json: bool) -> None:
    """Compare two datasets, or two folders of datasets: keys, codes, views, roles, tokenizers and rejects.

    Keys that one side lacks are counted, with those that it rejected; of keys that both have, the part of the tokens
    that differ in each role. Order and cut of the shards do not matter. Ends with exit status 1 when they differ.

    \b
    Example:
      visent diff corpus/photos corpus-bfloat16/photos
    """
    import json

    from manifests.corpora import compare_datasets, pairs_of

    pairs, only_a, only_b = pairs_of(a, b)
    found = [compare_datasets(*pair, named=named) for pair in pairs]
    same = not only_a and not only_b and all(each.same for each in found)
    if as_json:
        value = {"same": same, "only_in_a": only_a, "only_in_b": only_b, "datasets": [e.to_json() for e in found]}
        click.echo(json.dumps(value, indent=1, ensure_ascii=False))
    else:
        _print(found)
        for side, names in ((a, only_a), (b, only_b)):
            if names:
                click.echo(f"only in {side}: datasets {', '.join(names)}")
        click.echo("no difference" if same else "they differ")
    if not same:
        raise SystemExit(1)


def _print(found: list["DatasetDifference"]) -> None:
    from rich.table import Table

    from manifests.tables import console, percent

    keys = Table("dataset", "keys in both", "only in A", "only in B", "in another split", box=None,
                 header_style="bold", pad_edge=False)  # fmt: skip
    codes = Table("dataset", "role", "pictures", "that differ", "tokens that differ", "clips of other length", box=None,
                  header_style="bold", pad_edge=False)  # fmt: skip
    for each in found:
        keys.add_row(each.name, *(f"{count:,}" for count in (each.both, *each.only, each.other_split)))
        for name, role in each.roles.items():
            codes.add_row(each.name, name, f"{role.images:,}", f"{role.images_differ:,}", percent(role.fraction),
                          f"{role.other_length:,}")  # fmt: skip
    console().print(keys, "", codes, sep="\n")
    for each in found:
        for line in _remarks(each):
            click.echo(f"{each.name}: {line}")


def _remarks(found: "DatasetDifference") -> list[str]:
    lines = []
    for what, (a, b) in (("tokenizer", found.tokenizers), ("roles", found.kinds), ("views", found.views)):
        if a != b:
            lines.append(f"{what}: {a} in A, {b} in B")
    for reason, (in_a, in_b) in found.rejects.items():
        if in_a != in_b:
            lines.append(f"rejected as {reason}: {in_a:,} in A, {in_b:,} in B")
    for side, keys, count, rejected in zip("AB", found.only_keys, found.only, found.rejected_by_other, strict=True):
        if count:
            other = "B" if side == "A" else "A"
            why = ", ".join(f"{n:,} as {reason}" for reason, n in rejected.items())
            more = f", and {count - len(keys):,} more" if count > len(keys) else ""
            lines.append(f"only in {side}: {', '.join(keys)}{more}" + (f"; {other} rejected {why}" if why else ""))
    return lines
