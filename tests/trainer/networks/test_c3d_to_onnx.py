"""The script of docs/ that makes an ONNX network of C3D: what comes out is the network that tgan2 describes."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from trainer.networks.opening import open_network
from trainer.networks.resizing import resized

ROOT = Path(__file__).resolve().parents[3]
WIDTHS = {"conv1a": (3, 4), "conv2a": (4, 5), "conv3a": (5, 6), "conv3b": (6, 6), "conv4a": (6, 7), "conv4b": (7, 7)}
WIDTHS |= {"conv5a": (7, 8), "conv5b": (8, 8), "fc6": (8 * 4 * 4, 12), "fc7": (12, 10), "fc8": (10, 9)}


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """C3D's layers by Chainer's names, a few channels wide."""
    drawn, made = np.random.default_rng(0), {}
    for name, (before, after) in WIDTHS.items():
        shape = (after, before, 3, 3, 3) if name.startswith("conv") else (after, before)
        made[f"{name}/W"] = drawn.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        made[f"{name}/b"] = drawn.normal(0, 0.1, after).astype(np.float32)
    return made


def by_jax(weights: dict[str, np.ndarray], net: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C3D in channels last, padded by one before the last pool as in magvit."""
    for name in WIDTHS:
        kernel, bias = weights[f"{name}/W"], weights[f"{name}/b"]
        if name.startswith("fc"):
            net = net @ kernel.T + bias
            net = net if name == "fc8" else jax.nn.relu(net)
            features = net if name == "fc7" else None if name == "fc6" else features
            continue
        axes = ("NDHWC", "OIDHW", "NDHWC")
        net = jax.nn.relu(lax.conv_general_dilated(net, kernel, (1, 1, 1), "SAME", dimension_numbers=axes) + bias)
        if name in ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b"):
            net = jnp.pad(net, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))) if name == "conv5b" else net
            window = (1, 1 if name == "conv1a" else 2, 2, 2, 1)
            net = lax.reduce_window(net, -jnp.inf, lax.max, window, window, "VALID")
        if name == "conv5b":
            net = net.transpose(0, 4, 1, 2, 3).reshape(len(net), -1)
    return features, jax.nn.softmax(net)


def run_script(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "docs/c3d_to_onnx.py")]
    files = [str(folder / name) for name in ("weights.npz", "mean2.npz", "c3d")]
    return subprocess.run([*command, *files], capture_output=True, text=True, cwd=ROOT)


def test_it_is_c3d(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    mean = np.random.default_rng(1).uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
    np.savez(tmp_path / "weights.npz", **weights)
    np.savez(tmp_path / "mean2.npz", mean=mean)
    done = run_script(tmp_path)
    assert done.returncode == 0, done.stderr
    network = open_network("actions", str(tmp_path / "c3d/c3d_ucf101.onnx"))
    assert network.label == f"C3D, UCF101 ({network.sha256[:8]}, a port)"
    pixels = np.random.default_rng(2).integers(0, 256, (3, 16, 64, 80, 3), np.uint8)
    values = resized(pixels[..., ::-1], (112, 112), "corners") - mean[:, :, 8:120, 8:120].transpose(1, 2, 3, 0)
    features, probabilities = by_jax(weights, jnp.asarray(values))
    found = network.run(pixels)
    np.testing.assert_allclose(found.features, features, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.probabilities, probabilities, rtol=1e-3, atol=1e-5)
    assert network.classes == 9
    assert found.probabilities.std() > 1e-3


def test_other_files_are_one_line(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "mean2.npz", mean=np.zeros((3, 16, 128, 171), np.float32))
    assert "error: cannot read" in run_script(tmp_path).stderr
    np.savez(tmp_path / "weights.npz", **{name: array for name, array in weights.items() if name != "fc7/b"})
    assert "holds no fc7/b: it is another file" in run_script(tmp_path).stderr
    np.savez(tmp_path / "mean2.npz", mean=np.zeros((3, 112, 112), np.float32))
    assert run_script(tmp_path).stderr.endswith("mean is [3, 112, 112], expected [3, 16, 128, 171]\n")
