"""LWM's layout against a small network in Flax linen whose classes have LWM's names: linen numbers them by itself."""

import pickle
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from flax.serialization import msgpack_serialize
from made_checkpoints import encode, pictures, reconstruct

from tokenizer.checkpoints import read, write
from tokenizer.vqgan import VQGANConfig

WIDTHS, BLOCKS, SIDE = (32, 64), 2, 32
CONFIG = VQGANConfig(
    channels=32,
    channel_mult=(1, 2),
    num_res_blocks=BLOCKS,
    decoder_res_blocks=BLOCKS + 1,
    z_channels=8,
    codebook_size=128,
    codebook_dim=8,
    attn_resolutions=(128,),
    mid_attention=True,
    signed_pixels=True,
)


class ResnetBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        y = nn.Conv(self.width, (3, 3))(nn.silu(nn.GroupNorm()(x)))
        y = nn.Conv(self.width, (3, 3))(nn.silu(nn.GroupNorm()(y)))
        return y + (x if x.shape[-1] == self.width else nn.Conv(self.width, (1, 1))(x))


class AttnBlock(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        n, h, w, c = x.shape
        y = nn.GroupNorm()(x)
        q, k, v = (nn.Conv(c, (1, 1))(y).reshape(n, h * w, c) for _ in range(3))
        weights = jax.nn.softmax(jnp.einsum("nqc,nkc->nqk", q, k) / c**0.5)
        return x + nn.Conv(c, (1, 1))(jnp.einsum("nqk,nkc->nqc", weights, v).reshape(x.shape))


class Downsample(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Conv(x.shape[-1], (3, 3), strides=2, padding="VALID")(jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))


class Upsample(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Conv(x.shape[-1], (3, 3))(x.repeat(2, 1).repeat(2, 2))


class MidBlock(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = AttnBlock()(ResnetBlock(x.shape[-1])(x))
        return ResnetBlock(x.shape[-1])(x)


class DownsamplingBlock(nn.Module):
    level: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(BLOCKS):
            x = ResnetBlock(WIDTHS[self.level])(x)
            x = AttnBlock()(x) if self.level == 1 else x
        return Downsample()(x) if self.level == 0 else x


class UpsamplingBlock(nn.Module):
    level: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(BLOCKS + 1):
            x = ResnetBlock(WIDTHS[self.level])(x)
            x = AttnBlock()(x) if self.level == 1 else x
        return Upsample()(x) if self.level == 1 else x


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(WIDTHS[0], (3, 3))(x)
        for level in range(2):
            x = DownsamplingBlock(level)(x)
        return nn.Conv(8, (3, 3))(nn.silu(nn.GroupNorm()(MidBlock()(x))))


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, z: Any) -> Any:
        x = MidBlock()(nn.Conv(WIDTHS[-1], (3, 3))(z))
        for level in (1, 0):
            x = UpsamplingBlock(level)(x)
        return nn.Conv(3, (3, 3))(nn.silu(nn.GroupNorm()(x)))


class VectorQuantizer(nn.Module):
    @nn.compact
    def __call__(self, z: Any) -> Any:
        embeddings = self.param("embeddings", nn.initializers.normal(0.5), (128, 8))
        codes = jnp.square(z[..., None, :] - embeddings).sum(-1).argmin(-1)
        return embeddings[codes], codes


class Network(nn.Module):
    def setup(self) -> None:
        self.encoder, self.decoder, self.quantize = Encoder(), Decoder(), VectorQuantizer()
        self.quant_conv, self.post_quant_conv = nn.Conv(8, (1, 1)), nn.Conv(8, (1, 1))

    def __call__(self, signed: Any) -> Any:
        quantized, codes = self.quantize(self.quant_conv(self.encoder(signed)))
        return codes.reshape(len(signed), -1), self.decoder(self.post_quant_conv(quantized))


@pytest.fixture(scope="module")
def params() -> Any:
    """Random parameters, norms and biases included."""
    shapes = jax.eval_shape(lambda: Network().init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3))))["params"]
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        spread = np.prod(leaf.shape[:-1]) ** -0.5 if name == "kernel" else 0.5 if name == "embeddings" else 0.1
        return rng.normal(float(name == "scale"), spread, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def saved(params: Any, path: Path, form: str) -> Path:
    if form == "msgpack":
        path = path.with_suffix(".msgpack")
        path.write_bytes(msgpack_serialize({"params": params}))
        return path
    tree = {
        "numpy": params,
        "below params": {"params": params},
        "jax arrays": jax.tree.map(jnp.asarray, params),
        "frozen": freeze(params),
    }[form]
    path.write_bytes(pickle.dumps(tree))
    return path


@pytest.mark.slow
def test_codes_and_pictures_are_those_of_the_linen_network(tmp_path: Path, params: Any) -> None:
    checkpoint, images = read(saved(params, tmp_path / "vqgan", "numpy")), pictures(3, SIDE)
    assert (checkpoint.layout, checkpoint.config) == ("lwm", CONFIG)
    codes, expected = jax.jit(Network().apply)({"params": params}, 2 * images - 1)
    assert len(np.unique(codes)) > 20
    np.testing.assert_array_equal(encode(checkpoint, images), codes)
    np.testing.assert_allclose(reconstruct(checkpoint, np.asarray(codes)), (expected + 1) / 2, atol=1e-4)


@pytest.mark.parametrize("form", ["below params", "jax arrays", "frozen", "msgpack"])
def test_each_way_of_saving_the_tree_gives_the_same_weights(tmp_path: Path, params: Any, form: str) -> None:
    plain = read(saved(params, tmp_path / "plain", "numpy"))
    found = read(saved(params, tmp_path / "vqgan", form))
    assert (found.weights_sha256, found.decoder_sha256) == (plain.weights_sha256, plain.decoder_sha256)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["float32", ">f4", "float16", jnp.bfloat16])
def test_arrays_of_every_pickle_protocol_and_type_are_read(
    tmp_path: Path, params: Any, protocol: int, dtype: Any
) -> None:
    tree = jax.tree.map(lambda leaf: np.asfortranarray(leaf.astype(dtype)), params)
    (tmp_path / "vqgan").write_bytes(pickle.dumps(tree, protocol=protocol))
    found = read(tmp_path)
    expected = params["encoder"]["Conv_0"]["kernel"].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(found.tensors["encoder.conv_in.kernel"].astype(np.float32), expected)


def test_the_tree_we_write_runs_in_the_linen_network(tmp_path: Path, params: Any) -> None:
    write(read(saved(params, tmp_path / "vqgan", "numpy")), "lwm", tmp_path / "ours")
    ours = pickle.loads((tmp_path / "ours").read_bytes())
    assert jax.tree.structure(ours) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, ours, params)
