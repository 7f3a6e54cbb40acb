"""Statistics of a reference set as files: the `.npz` with `mu` and `sigma` of ADM, TTUR and pytorch-fid."""

from pathlib import Path

import numpy as np

from manifests import files
from trainer.figures.moments import Statistics
from visent.errors import UserError
from visent.untrusted.arrays import read_arrays

MOST_BYTES = 1 << 30  # of mu and sigma: 11,000 features
ASYMMETRY = 1e-5  # of a covariance that was kept in float32, relative to its largest entry


def read_statistics(path: str | Path) -> Statistics:
    """Reads the mean `mu` and covariance `sigma` of a `.npz`; other arrays in it stay unread.

    Raises:
        UserError: there is no such file, or it holds no mean and covariance.
    """
    try:
        with files.local_copy(path) as local, Path(local).open("rb") as file:
            arrays = read_arrays(file, ("mu", "sigma"), MOST_BYTES)
    except OSError as error:
        raise UserError(f"no reference statistics at {path} ({error.strerror or error}): name an .npz with mu and "
                        "sigma") from error  # fmt: skip
    except ValueError as error:
        raise UserError(f"{path} holds no reference statistics: {error}") from error
    if problem := _problem(arrays):
        raise UserError(f"{path} holds no reference statistics: {problem}; expected mu of d numbers and sigma of d x d")
    mean, covariance = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
    return Statistics(mean=mean, covariance=(covariance + covariance.T) / 2, samples=None)


def _problem(arrays: dict[str, np.ndarray]) -> str:
    if missing := [name for name in ("mu", "sigma") if name not in arrays]:
        return f"it lacks {' and '.join(missing)}"
    mean, covariance = arrays["mu"], arrays["sigma"]
    if any(values.dtype.kind != "f" for values in (mean, covariance)):
        return f"mu is of {mean.dtype} and sigma of {covariance.dtype}"
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        return f"mu has shape {mean.shape} and sigma {covariance.shape}"
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        return "numbers in it are not finite"
    if np.abs(covariance - covariance.T).max() > ASYMMETRY * np.abs(covariance).max():
        return "sigma is not symmetric"
    if (np.diagonal(covariance) < 0).any():
        return "sigma has variances below 0"
    return ""
