"""One compiled shape on all devices; what fills a batch changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainer.networks.running import batched

DRAWN = np.random.default_rng(0)
WEIGHTS = {"mix": DRAWN.normal(size=(3, 5)).astype(np.float32)}


def describe(weights: dict[str, jax.Array], pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A small network: means of the colours, mixed."""
    means = jnp.mean(pixels.astype(jnp.float32) / 255, axis=tuple(range(1, pixels.ndim - 1)))
    mixed = means @ weights["mix"]
    return mixed, jax.nn.softmax(mixed)


def only_features(weights: dict[str, jax.Array], pixels: jax.Array) -> tuple[jax.Array, None]:
    return describe(weights, pixels)[0], None


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, 8, 6, 3), np.uint8)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 23])
def test_any_number_of_pictures_gets_the_same_numbers_as_all_at_once(count: int) -> None:
    found, whole = batched(describe, WEIGHTS, 4)(pictures(count)), describe(WEIGHTS, jnp.asarray(pictures(count)))
    np.testing.assert_allclose(found.features, whole[0], atol=1e-6)
    np.testing.assert_allclose(found.probabilities, whole[1], atol=1e-6)


def test_a_picture_gets_the_same_bits_whatever_comes_with_it() -> None:
    run, many = batched(describe, WEIGHTS, 4), pictures(9)
    whole = run(many).features
    alone = np.concatenate([run(many[number : number + 1]).features for number in range(9)])
    assert np.array_equal(whole, alone)


def test_no_pictures_get_no_features() -> None:
    found = batched(describe, WEIGHTS, 4)(pictures(0))
    assert found.features.shape == found.probabilities.shape == (0, 5)


def test_clips_run_and_a_network_without_classes_has_no_probabilities() -> None:
    found = batched(only_features, WEIGHTS, 2)(DRAWN.integers(0, 256, (3, 4, 8, 6, 3), np.uint8))
    assert found.features.shape == (3, 5)
    assert found.probabilities is None


def test_eight_devices_give_what_one_gives() -> None:
    code = (
        "import json, jax; from test_running import *;"
        "found = batched(describe, WEIGHTS, 2)(pictures(23));"
        "print(json.dumps([jax.device_count(), found.features.tolist(), found.probabilities.tolist()]))"
    )
    root = Path(__file__).resolve().parents[3]
    path = os.pathsep.join([str(root), str(Path(__file__).parent)])
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **flags}, capture_output=True, check=True)
    devices, features, probabilities = json.loads(done.stdout)
    here = batched(describe, WEIGHTS, 2)(pictures(23))
    assert devices == 8
    assert np.array_equal(np.array(features, np.float32), here.features)
    assert np.array_equal(np.array(probabilities, np.float32), here.probabilities)
