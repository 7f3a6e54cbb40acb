"""Values set in a manifest's text by their paths; comments and order stay."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit

from manifests import edit
from manifests.manifest import Manifest, parse_text
from visent.errors import UserError, unknown

Path = tuple[str, ...]


def assign(text: str, path: str, assignments: list[str], stage: str | None = None) -> str:
    """Returns the text of the manifest at `path` with each `KEY.KEY=VALUE` set.

    `tasks.NAME.share=0.2` gives a task that part of every stage that reads it (or of `stage`); the others keep their
    ratios. Anything else is the path of a key as it stands in the file; the value is TOML, or text without quotes.

    Raises:
        UserError: no assignment, an unknown name, or a manifest that would not be one.
    """
    for assignment in assignments:
        keys, value = _parse(assignment)
        if len(keys) == 3 and keys[0] == "tasks" and keys[2] == "share":
            text = _set_share(text, parse_text(text, path), keys[1], value, stage)
        else:
            text = _set_value(text, keys, value)
        parse_text(text, path)
    return text


def _parse(assignment: str) -> tuple[Path, Any]:
    """Reads `tasks.pose.layout=blocks`; the value may lack the quotes that TOML wants."""
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise UserError(f"{assignment!r} sets nothing; expected KEY=VALUE, as stages.sequences.context=4096")
    for text in (value, tomlkit.string(value.strip()).as_string()):
        try:
            found = tomllib.loads(f"{name} = {text}")
            return next(_leaves(found, name.count(".") + 1))
        except tomllib.TOMLDecodeError:
            continue
    raise UserError(f"{assignment!r}: {name!r} is no path of keys; expected names joined by dots, as balance.max_views")


def _leaves(value: Any, depth: int) -> Iterator[tuple[Path, Any]]:
    """Yields the path of the only key at each level, down to the value."""
    keys: list[str] = []
    while len(keys) < depth and isinstance(value, dict) and len(value) == 1:
        keys.append(next(iter(value)))
        value = value[keys[-1]]
    yield tuple(keys), value


def _set_value(text: str, keys: Path, value: Any) -> str:
    if len(keys) == 3 and keys[0] == "datasets" and keys[2] == "views" and isinstance(value, int):
        return edit.set_views(text, keys[1], value, "")
    document = tomlkit.parse(text)
    table: Any = document
    for depth, key in enumerate(keys[:-1]):
        if key not in table:
            raise unknown(f"key in {'.'.join(keys[:depth]) or 'the manifest'}", key, table)
        table = table[key]
        if not isinstance(table, Mapping):
            raise UserError(
                f"{'.'.join(keys[: depth + 1])} is {table.unwrap()!r}, which holds no key {keys[depth + 1]!r}"
            )
    table[keys[-1]] = value
    return tomlkit.dumps(document)


def _set_share(text: str, manifest: Manifest, task: str, value: Any, stage: str | None) -> str:
    """Gives a task a share of stages; shares of the other keys are scaled to fill the rest."""
    if task not in manifest.tasks:
        raise unknown("task", task, manifest.tasks)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UserError(f"tasks.{task}.share is {value!r}; expected a part of the stage from 0 to below 1")
    stages = [stage] if stage else [name for name in manifest.stages if task in manifest.task_shares(name)]
    if not stages:
        raise UserError(f"no stage reads task {task!r}; say which one shall, with --stage NAME")
    for name in stages:
        check_same_throughout(manifest, name)
        text = _rescale(text, manifest, name, task, float(value))
    return text


def check_same_throughout(manifest: Manifest, stage: str) -> None:
    """Refuses to choose shares for a stage that has several.

    Raises:
        UserError: the stage has a schedule.
    """
    if manifest.stage(stage).schedule:
        raise UserError(f"the shares of stage {stage!r} change by its schedule, so it has none to set: edit share in "
                        f"its [[stages.{stage}.schedule]]")  # fmt: skip


def _rescale(text: str, manifest: Manifest, stage: str, task: str, share: float) -> str:
    others = _shares_without(manifest, stage, task)
    total = sum(others.values())
    if not total:
        raise UserError(f"stage {stage!r} reads only task {task!r}, so its share is 1; add another task to the stage")
    document: Any = tomlkit.parse(text)
    table = document["stages"][stage]["share"]
    for key in [key for key in table if key not in others and key != task]:
        del table[key]  # its kind, when it was the only task of it
    for key, part in others.items():
        table[key] = _round(part / total * (1 - share))
    table[task] = _round(share)
    within = document["stages"][stage].get("within", {}).get(manifest.tasks[task].kind, {})
    if task in within:
        del within[task]
    return tomlkit.dumps(document)


def _shares_without(manifest: Manifest, stage: str, task: str) -> dict[str, float]:
    """Returns the part of each key of a stage's share, in it and in its kind's part without the task."""
    wanted, parts = manifest.stage(stage).share, manifest.task_shares(stage)
    result = {}
    for key in wanted:
        group = [key] if key in manifest.tasks else [
            name for name, other in manifest.tasks.items() if other.kind == key and name not in wanted
        ]  # fmt: skip
        if set(group) - {task}:
            result[key] = sum(parts.get(name, 0.0) for name in group if name != task)
    return result


def _round(share: float) -> float:
    return float(f"{share:.6g}")


def set_shares(text: str, stage: str, shares: Mapping[str, float], reason: str) -> str:
    """Returns the text with a stage's share by task, the reason as the comment of that line; `within` goes."""
    document: Any = tomlkit.parse(text)
    table = document["stages"][stage]
    written = tomlkit.inline_table()
    written.update(shares)
    edit.comment(written, table.item("share"), reason)
    table["share"] = written
    if "within" in table:
        del table["within"]
    return tomlkit.dumps(document)


def set_limits(text: str, values: Mapping[str, Any]) -> str:
    """Returns the text with keys of [balance] set, and the table added where there is none."""
    if not values:
        return text
    document: Any = tomlkit.parse(text)
    if "balance" not in document:
        document["balance"] = tomlkit.table()
    document["balance"].update(values)
    return tomlkit.dumps(document)
