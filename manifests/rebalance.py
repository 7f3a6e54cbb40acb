"""Shares and views written into a manifest, with the reasons as comments."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from manifests import edit, files
from manifests.assign import check_same_throughout, set_limits, set_shares
from manifests.balance import Report, ViewChoice, analyse, load_all
from manifests.manifest import CloseWith, load, parse_text
from manifests.targets import exponent, target_shares
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Request:
    """What balancing shall do; None leaves the manifest's own value."""

    target: str | None = None  # equal, proportional, temperature=T or tokens; None leaves the shares
    tokens: Mapping[str, float] = field(default_factory=dict)  # wanted of each task, for the target "tokens"
    close_with: CloseWith | None = None
    max_views: int | None = None
    max_epochs: float | None = None
    stage: str | None = None  # only this one's shares
    sentences: Mapping[str, float] = field(default_factory=dict)  # planned, by stage

    def __post_init__(self) -> None:
        if self.target is not None:
            exponent(self.target)
        if self.tokens and self.target != "tokens":
            raise UserError("--tokens belongs to --target tokens; give both or none")
        for task, tokens in self.tokens.items():
            if not (math.isfinite(tokens) and tokens > 0):
                raise UserError(f"--tokens {task}={tokens:g}; expected a number above 0")
        if self.close_with is not None and self.close_with not in get_args(CloseWith):
            raise unknown("way to close a deficit", self.close_with, get_args(CloseWith))


def rebalance(path: str, request: Request, *, write: bool = True) -> tuple[Report, Report]:
    """Balances a manifest file: writes what the request changes, then shares, then views, with reasons as comments.

    Returns the reports before and after; `after.choices` says which views were chosen.

    Raises:
        UserError: the manifest, its datasets or the request are wrong, or the file cannot be written.
    """
    manifest = load(path)
    facts = load_all(manifest)
    before = analyse(manifest, facts, request.sentences)
    old = files.read_bytes(path).decode()
    text = _with_targets(_with_limits(old, request), before, request)
    plan = {**_planned(before), **(_plan_of_tokens(before, request) if request.target == "tokens" else {})}
    middle = analyse(parse_text(text, path), facts, plan)
    choices = choose_views(middle)
    for choice in choices:
        if choice.views != choice.before:
            text = edit.set_views(text, choice.dataset, choice.views, f"balance: {choice.reason}")
    after = replace(analyse(parse_text(text, path), facts, plan), choices=tuple(choices))
    if write and text != old:
        files.write_bytes(path, text.encode())
    return before, after


def _with_limits(text: str, request: Request) -> str:
    """Writes what the request says of [balance]."""
    values = {
        "close_deficit_with": request.close_with,
        "max_views": request.max_views,
        "max_epochs": request.max_epochs,
    }
    return set_limits(text, {key: value for key, value in values.items() if value is not None})


def _with_targets(text: str, before: Report, request: Request) -> str:
    """Writes the target's shares into each stage that it is for."""
    if request.target is None:
        return text
    for name in [before.manifest.stage(request.stage).name] if request.stage else before.manifest.stages:
        check_same_throughout(before.manifest, name)
        shares, reason = target_shares(before.stage(name), request.target, request.tokens)
        text = set_shares(text, name, shares, f"balance: {reason}")
    return text


def _plan_of_tokens(before: Report, request: Request) -> dict[str, float]:
    """Returns the sentences that the wanted tokens are, of each stage they were given for."""
    total = sum(request.tokens.values())
    return {name: total / stage.context for name, stage in before.manifest.stages.items()
            if request.stage in (None, name)}  # fmt: skip


def _planned(report: Report) -> dict[str, float]:
    """Returns the sentences that a report planned, so that another compares on the same plan."""
    totals: dict[str, float] = {}
    for row in report.rows:
        totals[row.stage] = totals.get(row.stage, 0.0) + row.wanted_sentences
    return totals


def choose_views(report: Report) -> list[ViewChoice]:
    """Returns the views of every dataset that a stage reads.

    With "augment" as many as it takes to see no row twice, with "mixed" as many as it takes to see no row more than
    `max_epochs` times, with "repeat" none. A dataset of several tasks gets the views of its neediest; a task in
    several stages is counted over all of them.
    """
    limits = report.manifest.balance
    if limits.close_deficit_with == "repeat":
        return []
    times = limits.max_epochs if limits.close_deficit_with == "mixed" else 1.0
    neediest: dict[str, tuple[int, str]] = {}
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = [row for row in report.rows if row.task == task]
        seen = sum(row.wanted_sentences * row.examples_per_sentence for row in rows)
        examples = min(row.examples for row in rows)
        needed = max(1, math.ceil(seen / (examples * times) - 1e-9)) if examples else 1
        reason = f"{task} reads {seen:,.0f} examples and has {examples:,}, each row at most {_times(times)}"
        dataset = rows[0].dataset
        if needed > neediest.get(dataset, (0, ""))[0]:
            neediest[dataset] = (needed, f"{reason}: {needed} view{'s' if needed > 1 else ''}")
    return [
        ViewChoice(
            dataset=dataset,
            before=report.manifest.datasets[dataset].views,
            needed=needed,
            views=min(needed, limits.max_views),
            reason=reason + (f", limited by max_views = {limits.max_views}" if needed > limits.max_views else ""),
        )
        for dataset, (needed, reason) in neediest.items()
    ]


def _times(times: float) -> str:
    return "once" if times == 1 else f"{times:g} times"
