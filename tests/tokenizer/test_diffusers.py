"""The papers' network against an independent implementation: diffusers' VQModel with the same random weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tokenizer.testing import random_model
from tokenizer.vqgan import VQGAN, VQGANConfig

# The shape of f16-8192 with narrow layers: five levels, several widths, no attention.
NARROW = VQGANConfig(
    channels=8,
    channel_mult=(1, 2, 2, 4, 6),
    num_res_blocks=2,
    decoder_res_blocks=3,
    z_channels=8,
    codebook_size=128,
    codebook_dim=8,
    image_size=64,
    norm_groups=4,
)


def diffusers_name(name: str) -> str:
    """Returns what diffusers calls one of our parameters."""
    replacements = [
        ("codebook", "quantize.embedding.weight"),
        ("encoder.levels", "encoder.down_blocks"),
        ("decoder.levels", "decoder.up_blocks"),
        (".blocks.", ".resnets."),
        ("middle.block1", "mid_block.resnets.0"),
        ("middle.block2", "mid_block.resnets.1"),
        ("shortcut", "conv_shortcut"),
        ("norm_out", "conv_norm_out"),
        ("kernel", "weight"),
        ("scale", "weight"),
        (".resample.", ".downsamplers.0." if name.startswith("encoder") else ".upsamplers.0."),
    ]
    for ours, theirs in replacements:
        name = name.replace(ours, theirs)
    return name


@pytest.fixture(scope="module")
def pair() -> tuple[VQGAN, Any]:
    """The two networks with the same random weights."""
    torch = pytest.importorskip("torch", reason="the oracle needs the extra [oracles]")
    diffusers = pytest.importorskip("diffusers", reason="the oracle needs the extra [oracles]")
    model = random_model(NARROW, seed=0)
    levels = len(NARROW.channel_mult)
    theirs = diffusers.VQModel(
        block_out_channels=[NARROW.channels * mult for mult in NARROW.channel_mult],
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=NARROW.num_res_blocks,
        latent_channels=NARROW.z_channels,
        num_vq_embeddings=NARROW.codebook_size,
        vq_embed_dim=NARROW.codebook_dim,
        norm_num_groups=NARROW.norm_groups,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    tensors = {}
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        array = np.asarray(value[...])
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        tensors[diffusers_name(".".join(map(str, path)))] = torch.from_numpy(array.copy())
    theirs.load_state_dict(tensors)
    return model, theirs.eval()


def test_features_are_those_of_diffusers(pair: tuple[VQGAN, Any], images: np.ndarray) -> None:
    model, theirs = pair
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        expected = theirs.encode(torch.from_numpy(images.transpose(0, 3, 1, 2))).latents.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model.latents(jnp.asarray(images)), expected, rtol=1e-3, atol=1e-4)


def test_codes_are_those_of_diffusers(pair: tuple[VQGAN, Any], images: np.ndarray) -> None:
    model, theirs = pair
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        latents = theirs.encode(torch.from_numpy(images.transpose(0, 3, 1, 2))).latents
        _, _, (_, _, expected) = theirs.quantize(latents)
    codes = np.asarray(model.encode(jnp.asarray(images)))
    assert len(np.unique(codes)) > 10
    np.testing.assert_array_equal(codes.reshape(-1), expected.numpy().reshape(-1))


def test_pictures_of_codes_are_those_of_diffusers(pair: tuple[VQGAN, Any]) -> None:
    model, theirs = pair
    torch = pytest.importorskip("torch")
    codes = np.random.default_rng(0).integers(0, NARROW.codebook_size, (2, NARROW.grid**2))
    with torch.no_grad():
        shape = (2, NARROW.grid, NARROW.grid, NARROW.codebook_dim)
        expected = theirs.decode(torch.from_numpy(codes), force_not_quantize=True, shape=shape).sample.numpy()
    decoded = np.asarray(model.decode(jnp.asarray(codes)))
    np.testing.assert_allclose(decoded, expected.transpose(0, 2, 3, 1).clip(0, 1), atol=1e-4)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Two pictures in [0, 1]."""
    coarse = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
    return np.array(jax.image.resize(coarse, (2, 64, 64, 3), "linear"))


def test_every_parameter_has_a_name_there() -> None:
    """Runs without the oracle: the mapping loses nothing."""
    model = nnx.eval_shape(lambda: VQGAN(NARROW, nnx.Rngs(0)))
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))]
    assert len({diffusers_name(name) for name in names}) == len(names) == 277
