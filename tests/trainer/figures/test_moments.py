"""Moments in any parts and order, Fréchet distances against other ways to compute them, reference statistics."""

import importlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.figures.moments import Moments, Statistics, frechet
from trainer.figures.reference import read_statistics
from visent.errors import UserError


def features(count: int, d: int, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    """Correlated features of a decaying spectrum, as a network's are; some are always 0."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(d).normal(size=(d, d)) / np.arange(1, d + 1)
    values = np.maximum(rng.normal(size=(count, d)) @ mixing + 0.2 + offset, 0)
    values[:, 0] = 0
    return values.astype(np.float32)


def moments(values: np.ndarray) -> Moments:
    result = Moments(values.shape[1])
    result.add(values)
    return result


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, with scipy's square root of the product."""
    product = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    traces = np.cov(a, rowvar=False).trace() + np.cov(b, rowvar=False).trace()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + traces - 2 * product.trace())


def by_samples(a: np.ndarray, b: np.ndarray) -> float:
    """Without covariances: the trace of the root is the nuclear norm of the samples' own products."""
    one, two = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (a, b))
    shared = np.linalg.norm(one @ two.T, "nuc")
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.square(one).sum() + np.square(two).sum() - 2 * shared)


@st.composite
def splits(draw: st.DrawFn, total: int) -> list[np.ndarray]:
    """Parts of the numbers below `total`, in any order, some of them empty."""
    order = np.array(draw(st.permutations(range(total))))
    cuts = sorted(draw(st.lists(st.integers(0, total), max_size=6)))
    return list(np.split(order, cuts))


@settings(max_examples=25)
@given(splits(40), st.sampled_from([0.0, 1e3]), st.integers(3, 50))
def test_any_split_and_order_of_merging_gives_the_same_distance(parts: list[np.ndarray], offset: float, d: int) -> None:
    """To ten digits; also far from zero, and with fewer samples than features, where covariances are singular."""
    values, other = features(40, d, 1, offset).astype(np.float64), moments(features(50, d, 2, offset + 0.5))
    whole = moments(values)
    merged, streamed = Moments(d), Moments(d)
    for part in parts:
        merged = moments(values[part]).merged(merged)
        streamed.add(values[part])
    for one in (merged, streamed, Moments.from_arrays(merged.to_arrays())):
        assert one.count == 40
        np.testing.assert_allclose(one.mean, whole.mean, rtol=1e-12)
        assert frechet(one, other) == pytest.approx(frechet(whole, other), rel=1e-10)


def test_merging_leaves_both_parts_as_they_were() -> None:
    a, b = moments(features(20, 5)), moments(features(9, 5, 1))
    before = [one.to_arrays() for one in (a, b)]
    merged = a.merged(b)
    merged.add(features(7, 5, 2))
    a.merged(Moments(5)).add(features(7, 5, 2))
    for one, arrays in zip((a, b), before, strict=True):
        for name, array in one.to_arrays().items():
            np.testing.assert_array_equal(array, arrays[name])


def test_moments_are_numpys() -> None:
    values = features(300, 20, offset=100.0)
    found = moments(values).statistics
    np.testing.assert_allclose(found.mean, values.mean(0, dtype=np.float64), rtol=1e-12)
    expected = np.cov(values.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-9, atol=1e-12 * expected.max())


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 8), (500, 900, 64), (2000, 1500, 200)])
def test_the_distance_is_that_of_scipys_square_root(n: int, m: int, d: int) -> None:
    a, b = features(n, d, 1).astype(np.float64)[:, 1:], features(m, d, 2, 0.1).astype(np.float64)[:, 1:]
    assert frechet(moments(a), moments(b)) == pytest.approx(by_sqrtm(a, b), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 300, 100), (20, 25, 300), (2, 2, 5), (400, 50, 64)])
def test_fewer_samples_than_features_lose_no_digits(n: int, m: int, d: int) -> None:
    """The square root of a singular product is where the usual formula fails; samples have no such root."""
    a, b = features(n, d, 1).astype(np.float64), features(m, d, 2, 0.1).astype(np.float64)
    assert frechet(moments(a), moments(b)) == pytest.approx(by_samples(a, b), rel=1e-9)


@pytest.mark.parametrize("power", [1, 4, 10])
@pytest.mark.parametrize(("n", "m"), [(150, 130), (60, 300), (40, 40)])
def test_steep_spectra_keep_their_digits(power: int, n: int, m: int) -> None:
    """Down to directions that float64 cannot hold beside the largest, with more samples than features or fewer."""
    rng = np.random.default_rng(power)
    fall = np.arange(1, 101.0) ** -power
    a, b = (rng.normal(size=(count, 100)) @ (rng.normal(size=(100, 100)) * fall) for count in (n, m))
    assert frechet(moments(a), moments(b)) == pytest.approx(by_samples(a, b), rel=1e-9)


@given(st.integers(1, 12), st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000), st.floats(-3, 3))
def test_the_distance_is_symmetric_not_negative_and_knows_shifts(
    d: int, n: int, m: int, seed: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 2
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    found = frechet(moments(a), moments(b))
    scale = found + np.square(a).sum() + np.square(b).sum()
    assert found >= 0
    assert frechet(moments(b), moments(a)) == pytest.approx(found, rel=1e-9, abs=1e-12 * scale)
    assert frechet(moments(a @ turn), moments(b @ turn)) == pytest.approx(found, rel=1e-9, abs=1e-12 * scale)
    assert frechet(moments(a), moments(a + shift)) == pytest.approx(d * shift**2, rel=1e-9, abs=1e-12 * scale)
    assert frechet(moments(a), moments(a)) == pytest.approx(0, abs=1e-12 * scale)


def test_normal_distributions_with_known_distance() -> None:
    """Covariances that commute: the sum of squared differences of standard deviations."""
    a = Statistics(mean=np.zeros(3), covariance=np.diag([4.0, 9, 0]), samples=None)
    b = Statistics(mean=np.array([1.0, 2, 0]), covariance=np.diag([1.0, 0, 16]), samples=None)
    assert frechet(a, b) == pytest.approx(5 + 1 + 9 + 16, rel=1e-14)


@pytest.mark.slow
def test_2048_features_of_few_samples_keep_their_digits() -> None:
    a, b = features(500, 2048, 1).astype(np.float64), features(700, 2048, 2, 0.1).astype(np.float64)
    assert frechet(moments(a), moments(b)) == pytest.approx(by_samples(a, b), rel=1e-9)


def test_damaged_features_and_other_networks_are_refused() -> None:
    bad = features(5, 4)
    bad[2, 1] = np.nan
    with pytest.raises(UserError, match="the features of 1 of 5 samples hold numbers that are not finite"):
        moments(bad)
    with pytest.raises(UserError, match="between 4 and 5 features"):
        frechet(moments(features(9, 4)), moments(features(9, 5)))
    with pytest.raises(UserError, match="from 1 samples: expected 2 at least"):
        frechet(moments(features(1, 4)), moments(features(9, 4)))


def test_reference_statistics_give_the_distance_from_what_they_were_made_of(tmp_path: Path) -> None:
    """Made as pytorch-fid's --save-stats and ADM make them."""
    real, mine = features(90, 12), moments(features(70, 12, 1, 0.3))
    np.savez(tmp_path / "reference.npz", mu=real.mean(axis=0), sigma=np.cov(real, rowvar=False))
    assert frechet(mine, read_statistics(tmp_path / "reference.npz")) == pytest.approx(frechet(mine, moments(real)))


def test_adms_reference_with_pictures_and_spatial_statistics_is_read(tmp_path: Path) -> None:
    one = moments(features(90, 6)).statistics
    np.savez(tmp_path / "adm.npz", arr_0=np.zeros((3, 8, 8, 3), np.uint8), mu=one.mean.astype(np.float32),
             sigma=one.covariance.astype(np.float32), mu_s=np.zeros(4), sigma_s=np.eye(4))  # fmt: skip
    read = read_statistics(tmp_path / "adm.npz")
    np.testing.assert_allclose(read.covariance, one.covariance, rtol=1e-5, atol=1e-6)
    assert read.samples is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(3)}, "it lacks sigma"),
        ({"x": np.zeros(3)}, "it lacks mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"mu has shape \(3,\) and sigma \(4, 4\)"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"mu has shape \(0,\)"),
        ({"mu": np.zeros(3, int), "sigma": np.eye(3)}, "mu is of int64"),
        ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.inf)}, "not finite"),
        ({"mu": np.zeros(3), "sigma": np.tri(3)}, "not symmetric"),
        ({"mu": np.array([None]), "sigma": np.eye(1)}, "pickled Python objects"),
    ],
)
def test_what_holds_no_statistics_is_refused_with_the_reason(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=f"holds no reference statistics: .*{message}"):
        read_statistics(tmp_path / "bad.npz")


def test_files_that_are_absent_cut_or_no_npz_are_refused(tmp_path: Path) -> None:
    data = BytesIO()
    np.savez(data, mu=np.zeros(9), sigma=np.eye(9))
    (tmp_path / "cut.npz").write_bytes(data.getvalue()[:200])
    (tmp_path / "text.npz").write_text("mu")
    with pytest.raises(UserError, match="no reference statistics at"):
        read_statistics(tmp_path / "absent.npz")
    for name in ("cut.npz", "text.npz"):
        with pytest.raises(UserError, match="holds no reference statistics"):
            read_statistics(tmp_path / name)


@pytest.mark.parametrize("reference", ["torchmetrics", "torch_fidelity", "pytorch_fid"])
def test_the_distance_is_that_of_other_projects(reference: str) -> None:
    """The papers' figures come from these: the same features must give the same figure to six digits."""
    torch = pytest.importorskip("torch", reason="pip install 'visent[oracles]'")
    pytest.importorskip(reference, reason="pip install 'visent[oracles]'")
    a, b = features(900, 64, 1).astype(np.float64)[:, 1:], features(700, 64, 2, 0.1).astype(np.float64)[:, 1:]
    if reference == "torchmetrics":
        metric = importlib.import_module("torchmetrics.image.fid").FrechetInceptionDistance(
            feature=torch.nn.Flatten(), input_img_size=(1, 1, 63)
        )
        metric.set_dtype(torch.float64)
        for values, real in ((a, True), (b, False)):
            metric.update(torch.from_numpy(values).reshape(-1, 1, 1, 63), real=real)
        expected = float(metric.compute())
    elif reference == "torch_fidelity":
        module = importlib.import_module("torch_fidelity.metric_fid")
        statistics = [module.fid_features_to_statistics(torch.from_numpy(values)) for values in (a, b)]
        expected = module.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    else:
        module = importlib.import_module("pytorch_fid.fid_score")
        arguments = [part for values in (a, b) for part in (values.mean(0), np.cov(values, rowvar=False))]
        expected = module.calculate_frechet_distance(*arguments)
    assert frechet(moments(a), moments(b)) == pytest.approx(expected, rel=1e-6)
