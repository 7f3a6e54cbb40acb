"""Unit sizes and worker counts for a saved plan, each simulated, and the cheapest that is done in time."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests import files
from pipelines.planning.simulation import Fleet, Outcome, simulate
from visent.errors import UserError, said

HOURLY = ("accelerators", "vCPUs", "memory", "disk")  # costs of a plan that grow with the hours
EACH_SHARD = ("writes",)  # and with the number of shards


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What simulating needs of a plan."""

    rows: int
    rows_per_shard: int
    seconds_per_row: float
    cost_per_hour: float | None
    cost_per_shard: float
    other_costs: float
    currency: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to run a job."""

    workers: int
    rows_per_shard: int
    unit_seconds: float  # of a whole unit on a machine that is not slow
    outcome: Outcome
    cost: float | None
    currency: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**asdict(self), "outcome": self.outcome.to_json()}


def load_saved(path: str) -> Saved:
    """Reads what `visent plan --save` wrote.

    Raises: `UserError` when it is no plan.
    """
    try:
        return saved(files.read_json(path))
    except FileNotFoundError as error:
        raise UserError(f"no plan at {path}: write one with `visent plan SOURCE --save {path}`") from error
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        wrong = f"it lacks {error}" if isinstance(error, KeyError) else said(error)
        raise UserError(f"{path} is no plan ({wrong}): write one with `visent plan SOURCE --save {path}`") from error


def saved(plan: Mapping[str, Any]) -> Saved:
    """Returns what simulating needs of a plan's JSON values."""
    costs, rows = plan["costs"] or {}, int(plan["rows"])
    return Saved(
        rows=rows, rows_per_shard=max(round(plan["rows_per_shard"]), 1), currency=plan["currency"],
        seconds_per_row=float(plan["images"]) / rows / float(plan["images_per_second"]),
        cost_per_hour=sum(costs[name] for name in HOURLY) / plan["hours"] if costs else None,
        cost_per_shard=sum(costs.get(name, 0.0) for name in EACH_SHARD) / plan["amounts"]["shards"],
        other_costs=sum(cost for name, cost in costs.items() if name not in (*HOURLY, *EACH_SHARD)),
    )  # fmt: skip


def choices(
    plan: Saved, workers: Sequence[int], rows_per_shard: Sequence[int], fleet: Mapping[str, Any]
) -> list[Choice]:
    """Simulates every pair of a unit's size and a number of workers; `fleet` are the further fields of a `Fleet`.

    Raises: `UserError` when no unit would ever end, or a setting makes no sense.
    """
    found = []
    for size, count in itertools.product(rows_per_shard or [plan.rows_per_shard], workers):
        settings = {name.replace("preemptions", "preemptions_per_hour"): value for name, value in fleet.items()}
        units, seconds = -(-plan.rows // size), min(size, plan.rows) * plan.seconds_per_row
        outcome = simulate(Fleet(workers=count, **settings), units, seconds)
        cost = None
        if plan.cost_per_hour is not None:
            cost = outcome.paid * plan.cost_per_hour + units * plan.cost_per_shard + plan.other_costs
        found.append(Choice(workers=count, rows_per_shard=size, unit_seconds=seconds, outcome=outcome, cost=cost,
                            currency=plan.currency))  # fmt: skip
    return found


def best(found: Sequence[Choice], days: float | None) -> Choice | None:
    """Returns the cheapest choice that takes at most so many days; None when there is none."""
    in_time = [choice for choice in found if days is None or choice.outcome.wall <= 24 * days]
    return min(in_time, key=lambda choice: (choice.cost or 0.0, choice.outcome.paid), default=None)
