"""The simulated job: nothing is lost or paid twice, and where arithmetic gives the answer, it gives that."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.planning.simulation import Fleet, simulate
from visent.errors import UserError

PLAIN = {"start": 0.0, "spread": 0.0, "per_unit": 0.0}


@given(st.integers(1, 12), st.integers(1, 60), st.floats(1.0, 1e4), st.floats(0, 1000))
def test_equal_units_on_equal_workers_take_what_arithmetic_says(
    workers: int, units: int, seconds: float, start: float
) -> None:
    out = simulate(Fleet(workers=workers, **{**PLAIN, "start": start}), units, seconds)
    assert out.wall * 3600 == pytest.approx(start + math.ceil(units / workers) * seconds)
    assert out.useful * 3600 == pytest.approx(units * seconds)
    assert (out.lost, out.preemptions) == (0, 0)


@given(st.integers(1, 12), st.integers(1, 60), st.floats(0, 1), st.floats(1, 5), st.integers(0, 9))
def test_every_hour_of_every_worker_is_accounted_for(
    workers: int, units: int, slow: float, factor: float, seed: int
) -> None:
    fleet = Fleet(workers=workers, start=50.0, slow=slow, slow_factor=factor, spread=0.3, seed=seed)
    out = simulate(fleet, units, 600.0)
    assert out.paid == pytest.approx(workers * out.wall)
    assert out.units == units


@given(st.integers(1, 12), st.integers(1, 60), st.floats(0.01, 2.0), st.floats(0, 300), st.integers(0, 9))
def test_preempted_jobs_do_all_the_work_and_pay_at_most_for_all_the_time(
    workers: int, units: int, rate: float, replace: float, seed: int
) -> None:
    fleet = Fleet(workers=workers, preemptions_per_hour=rate, replace=replace, seed=seed,
                  **{**PLAIN, "start": 60.0})  # fmt: skip
    out = simulate(fleet, units, 600.0)
    assert out.useful * 3600 == pytest.approx(units * 600.0), "each unit is finished once"
    assert out.paid <= workers * out.wall * (1 + 1e-9)
    assert out.preemptions or out.lost == 0
    if out.lost == 0 and not out.preemptions:
        assert out.paid == pytest.approx(workers * out.wall)


def test_what_preemptions_cost_is_what_theory_says() -> None:
    """A unit of length t at rate r is begun exp(r t) times and takes (exp(r t) - 1) / r on average, ended ones too."""
    hours, rate = 0.5, 1.0
    out = simulate(Fleet(workers=50, preemptions_per_hour=rate, replace=0.0, **PLAIN), 20_000, hours * 3600)
    each = (math.exp(rate * hours) - 1) / rate
    assert (out.useful + out.lost) / 20_000 == pytest.approx(each, rel=0.02)
    assert out.preemptions / (out.useful + out.lost) == pytest.approx(rate, rel=0.03)


def test_the_same_seed_gives_the_same_job_and_another_one_another() -> None:
    fleets = [Fleet(workers=5, preemptions_per_hour=1.0, slow=0.3, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (simulate(fleet, 100, 300.0) for fleet in fleets)
    assert first == again != other


def test_more_preemptions_ask_for_smaller_units() -> None:
    """The reason to simulate: a unit's size that is best on calm machines is not on those that are taken away."""

    def best(rate: float) -> float:
        fleet = Fleet(workers=20, preemptions_per_hour=rate, per_unit=5.0, start=60.0)
        work = 20 * 20 * 3600.0
        paid = {size: simulate(fleet, round(work / size), size).paid for size in (60.0, 600.0, 3600.0)}
        return min(paid, key=lambda size: paid[size])

    assert best(0.0) > best(2.0)


def test_a_job_whose_units_outlive_its_workers_is_refused() -> None:
    with pytest.raises(UserError, match="units take longer than workers last"):
        simulate(Fleet(workers=2, preemptions_per_hour=100.0), 10, 36_000.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("workers", 0, "--workers is 0"),
        ("slow", 1.5, "--slow is 1.5"),
        ("preemptions_per_hour", -1.0, "--preemptions is -1"),
        ("spread", math.nan, "--spread is nan"),
        ("start", math.inf, "--start is inf"),
    ],
)
def test_a_fleet_is_checked(field: str, value: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Fleet(**{"workers": 1, field: value})
