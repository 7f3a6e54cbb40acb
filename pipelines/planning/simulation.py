"""A job of many units on many workers, simulated: what slow machines and preemptions do to its time and its cost.

Events are worked off in the order of time. Every worker that is free takes the next unit, as runners do that deal out
work while a job runs. A worker that is preempted loses the unit it was at, whole: a shard is there or it is not. The
unit goes back to the others, and another worker comes in its place. A unit's time is what its rows take, times the
machine's slowness, times a random factor of median 1. Everything is drawn from the seed.
"""

import heapq
import math
import random
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from visent.errors import UserError

MOST_LOSSES = 20  # times the work itself; a job that loses more does not end


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The workers, each with one accelerator, and what happens to them. Times in seconds."""

    workers: int
    start: float = 300.0  # from asking for a worker until it has its tokenizer: machine, image, driver, compiling
    preemptions_per_hour: float = 0.0  # of one worker, on average
    replace: float = 120.0  # until another machine is found for one that was taken, before its start
    slow: float = 0.0  # part of the machines that are slow
    slow_factor: float = 2.0  # how many times longer they take
    spread: float = 0.1  # of units' times: standard deviation of their logarithm
    per_unit: float = 2.0  # besides the rows: opening, listing, receipt, log
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"--workers is {self.workers}, expected 1 or more")
        if not 0 <= self.slow <= 1:
            raise UserError(f"--slow is {self.slow:g}, expected a part, from 0 to 1")
        for name in ("start", "preemptions_per_hour", "replace", "slow_factor", "spread", "per_unit"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                option = name.removesuffix("_per_hour").replace("_", "-")
                raise UserError(f"--{option} is {value:g}, expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a simulated job went. Hours; all but `wall` are summed over workers and are paid for."""

    wall: float
    useful: float  # at units that were finished
    lost: float  # at units whose worker was preempted
    starting: float
    idle: float  # after the last unit was dealt out, until the job's end
    preemptions: int
    units: int

    @property
    def paid(self) -> float:
        """Hours of all workers."""
        return self.useful + self.lost + self.starting + self.idle

    @property
    def efficiency(self) -> float:
        """Part of the paid hours that made shards."""
        return self.useful / self.paid

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**asdict(self), "paid": self.paid, "efficiency": self.efficiency}


@dataclass
class _Worker:
    """One machine; the next event of it is its readiness, or the end of a unit, or its preemption."""

    slowness: float
    taken: float  # when it is preempted
    unit: float | None = None  # seconds of the unit that it is at, on a machine that is not slow
    began: float = 0.0


class _Simulation:
    def __init__(self, fleet: Fleet, units: int, seconds: float) -> None:
        self.fleet, self.random = fleet, random.Random(fleet.seed)
        self.waiting = deque(self._length(seconds) for _ in range(units))
        self.left = units
        self.events: list[tuple[float, int, _Worker]] = []
        self.idle: list[tuple[float, _Worker]] = []
        self.useful = self.lost = self.starting = self.idled = 0.0
        self.preemptions = self.number = 0

    def _length(self, seconds: float) -> float:
        return (seconds + self.fleet.per_unit) * math.exp(self.fleet.spread * self.random.gauss(0, 1))

    def _add(self, at: float) -> None:
        """A worker is asked for at a time; it is paid from then on."""
        ready = at + self.fleet.start
        rate = self.fleet.preemptions_per_hour / 3600
        taken = at + self.random.expovariate(rate) if rate else math.inf
        slowness = self.fleet.slow_factor if self.random.random() < self.fleet.slow else 1.0
        self._push(min(ready, taken), _Worker(slowness=slowness, taken=taken, began=at))

    def _push(self, at: float, worker: _Worker) -> None:
        self.number += 1
        heapq.heappush(self.events, (at, self.number, worker))

    def run(self) -> float:
        """Returns when the last unit was finished."""
        limit = MOST_LOSSES * (self.left + self.fleet.workers)
        for _ in range(self.fleet.workers):
            self._add(0.0)
        now = 0.0
        while self.left:
            now, _, worker = heapq.heappop(self.events)
            if now >= worker.taken:
                self._preempt(worker, now)
                if self.preemptions > limit:
                    raise UserError("units take longer than workers last, so the job does not end: make units smaller")
                continue
            if worker.unit is None:
                self.starting += now - worker.began
            else:
                self.useful += now - worker.began
                self.left -= 1
            self._next(worker, now)
        self.idled += sum(now - since for since, _ in self.idle)
        for _, _, worker in self.events:  # that still start, or replace one: paid until the end
            self.starting += max(now - worker.began, 0.0)
        return now

    def _preempt(self, worker: _Worker, now: float) -> None:
        self.preemptions += 1
        if worker.unit is None:
            self.starting += now - worker.began
        else:
            self.lost += now - worker.began
            self._deal(worker.unit, now)
        self._add(now + self.fleet.replace)

    def _deal(self, unit: float, now: float) -> None:
        """Gives a lost unit to a worker that has nothing to do, or puts it first in the queue."""
        while self.idle:
            since, worker = self.idle.pop()
            gone = min(now, worker.taken)
            self.idled += gone - since
            if worker.taken > now:
                self.waiting.appendleft(unit)
                self._next(worker, now)
                return
        self.waiting.appendleft(unit)

    def _next(self, worker: _Worker, now: float) -> None:
        if not self.waiting:
            worker.unit = None
            self.idle.append((now, worker))
            return
        worker.unit, worker.began = self.waiting.popleft(), now
        self._push(min(now + worker.unit * worker.slowness, worker.taken), worker)


def simulate(fleet: Fleet, units: int, seconds: float) -> Outcome:
    """Runs `units` units, whose rows take `seconds` each on a machine that is not slow.

    Raises: `UserError` when workers are preempted faster than they finish units.
    """
    work = _Simulation(fleet, units, seconds)
    wall = work.run()
    hour = 3600.0
    return Outcome(
        wall=wall / hour, useful=work.useful / hour, lost=work.lost / hour, starting=work.starting / hour,
        idle=work.idled / hour, preemptions=work.preemptions, units=units,
    )  # fmt: skip
