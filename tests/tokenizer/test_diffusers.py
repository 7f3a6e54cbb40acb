"""Our network against an independent implementation, diffusers' VQModel, through files that either side wrote."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_checkpoints import ATTENTIVE, PLAIN, encode, made, pictures, reconstruct, same

from tokenizer.checkpoints import Checkpoint, read, write
from tokenizer.vqgan import F16_8192, VQGANConfig

torch = pytest.importorskip("torch", reason="the oracle needs the extra [oracles]")
diffusers = pytest.importorskip("diffusers", reason="the oracle needs the extra [oracles]")

SIDE = 64  # pixels of the small networks' pictures


def spread(checkpoint: Checkpoint, images: np.ndarray) -> Checkpoint:
    """Draws the codebook around the features of pictures, so that many codes are in use."""
    import jax.numpy as jnp
    from flax import nnx

    from tokenizer.checkpoints.network import build
    from tokenizer.vqgan import VQGAN

    latents = np.asarray(nnx.jit(VQGAN.latents)(build(checkpoint), jnp.asarray(images)))
    latents = latents.reshape(-1, latents.shape[-1])
    rng = np.random.default_rng(0)
    count, dim = checkpoint.config.codebook_size, checkpoint.config.codebook_dim
    codebook = latents[rng.integers(0, len(latents), count)] + rng.normal(0, latents.std(0), (count, dim))
    return dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, "codebook": codebook.astype(np.float32)})


def theirs(folder: Path) -> Any:
    """Diffusers' own loader, which must not complain of anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, report = diffusers.VQModel.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, low_cpu_mem_usage=False, torch_dtype=torch.float32
        )
    assert not any(report.values()), report
    return model.eval()


def compare(checkpoint: Checkpoint, folder: Path, images: np.ndarray, least_codes: int) -> None:
    """All codes equal in float32, and pictures of codes within 1e-4."""
    model = theirs(folder)
    signed = checkpoint.config.signed_pixels
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    codes = encode(checkpoint, images)
    with torch.no_grad():
        latents = model.encode(2 * pixels - 1 if signed else pixels).latents
        expected = model.quantize(latents)[2][2].reshape(codes.shape).numpy()
        assert len(np.unique(codes)) >= least_codes
        np.testing.assert_array_equal(codes, expected)
        shape = (*latents.shape[::2], latents.shape[3], latents.shape[1])
        decoded = model.decode(torch.from_numpy(codes.copy()), force_not_quantize=True, shape=shape).sample
    decoded = decoded.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(reconstruct(checkpoint, codes), (decoded + 1) / 2 if signed else decoded, atol=1e-4)


@pytest.mark.parametrize("config", [PLAIN, ATTENTIVE], ids=["plain", "attention"])
def test_what_we_write_diffusers_loads_with_equal_codes_and_pictures(tmp_path: Path, config: VQGANConfig) -> None:
    """`attention`: AttnDownEncoderBlock2D in one level, and in the middle."""
    checkpoint = spread(made(config), pictures(4, SIDE, seed=5))
    write(checkpoint, "diffusers", tmp_path)
    compare(checkpoint, tmp_path, pictures(4, SIDE), least_codes=20)


@pytest.mark.slow
def test_a_float16_file_gives_equal_codes_too(tmp_path: Path) -> None:
    whole = spread(made(PLAIN), pictures(4, SIDE, seed=5))
    halves = {name: tensor.astype(np.float16) for name, tensor in whole.tensors.items()}
    write(dataclasses.replace(whole, tensors=halves, stored_dtype="float16"), "diffusers", tmp_path)
    checkpoint = read(tmp_path)
    assert checkpoint.stored_dtype == "float16"
    compare(checkpoint, tmp_path, pictures(4, SIDE), least_codes=20)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_what_diffusers_writes_we_read_bit_by_bit(tmp_path: Path, safe: bool) -> None:
    checkpoint = made(ATTENTIVE)
    write(checkpoint, "diffusers", tmp_path / "ours")
    theirs(tmp_path / "ours").save_pretrained(tmp_path / "vqvae", safe_serialization=safe)
    assert (tmp_path / "vqvae" / f"diffusion_pytorch_model.{'safetensors' if safe else 'bin'}").is_file()
    assert same(read(tmp_path), checkpoint)  # diffusers hands on the facts whose names begin with an underscore


@pytest.mark.slow
def test_the_full_f16_8192_network_agrees_in_every_code(tmp_path: Path) -> None:
    """Through both layouts that its public copies have: muse's file is read, written for diffusers and run there."""
    images = pictures(2, 256)
    checkpoint = spread(made(F16_8192), images)
    write(checkpoint, "muse", tmp_path / "muse")
    found = read(tmp_path / "muse")
    assert same(found, checkpoint)
    write(found, "diffusers", tmp_path / "diffusers")
    assert same(read(tmp_path / "diffusers"), checkpoint)
    compare(found, tmp_path / "diffusers", images, least_codes=200)
