"""Target shares of a stage, from what its tasks have: equal, proportional, by temperature, or by tokens."""

from collections.abc import Mapping, Sequence

from manifests.balance import TaskBalance
from visent.errors import UserError, unknown

TARGETS = ("equal", "proportional", "temperature=T", "tokens")


def exponent(target: str) -> float | None:
    """Returns the power of a task's tokens that its share follows, or None for "tokens".

    0 for "equal", 1 for "proportional", T for "temperature=T".

    Raises: `UserError` for any other text.
    """
    if target in ("equal", "proportional"):
        return float(target == "proportional")
    if target == "tokens":
        return None
    name, _, number = target.partition("=")
    try:
        power = float(number) if name == "temperature" else float("nan")
    except ValueError:
        power = float("nan")
    if name == "temperature" and not 0 <= power <= 1:
        raise UserError(f"--target {target}: the temperature is {number or 'missing'}; expected 0 (equal shares) to 1 "
                        "(proportional to the data), as temperature=0.5")  # fmt: skip
    if name != "temperature":
        raise unknown("target", target, TARGETS)
    return power


def target_shares(
    rows: Sequence[TaskBalance], target: str, tokens: Mapping[str, float]
) -> tuple[dict[str, float], str]:
    """Returns the share of each task of one stage, and the reason.

    `rows` are the stage's; what a task has are its original examples, without views. `tokens` gives the wanted tokens
    of each task, for the target "tokens".

    Raises: `UserError` for a target that is none, or wanted tokens that do not fit the tasks.
    """
    power = exponent(target)
    if power is None:
        wanted = _wanted(rows, tokens)
        reason = "tokens " + ", ".join(f"{task} {number:g}" for task, number in wanted.items())
    else:
        has = {row.task: row.examples / row.examples_per_sentence * row.context for row in rows}
        if empty := [task for task, number in has.items() if not number]:
            raise UserError(f"task {empty[0]!r} has no examples to take a share by; take it out of the stage")
        wanted = {task: number**power for task, number in has.items()}
        reason = f"{target} of " + ", ".join(f"{task} {number:.3g}" for task, number in has.items()) + " tokens"
    total = sum(wanted.values())
    return {task: float(f"{number / total:.6g}") for task, number in wanted.items()}, reason


def _wanted(rows: Sequence[TaskBalance], tokens: Mapping[str, float]) -> dict[str, float]:
    names = [row.task for row in rows]
    for task in tokens:
        if task not in names:
            raise unknown(f"task of stage {rows[0].stage!r}", task, names)
    if missing := [name for name in names if name not in tokens]:
        raise UserError(f"--target tokens: no tokens are given for {', '.join(missing)}; add --tokens {missing[0]}=1e9")
    return {name: tokens[name] for name in names}
