"""The VQGAN network (Esser et al. 2021, arXiv:2012.09841): encoder, quantizer and decoder in Flax NNX.

One class serves the f16-8192 network of LVM and LVM-Lite (`F16_8192`, open-muse's layout) and the small default
(`SMALL`), which folds `patch_size` x `patch_size` pixels into channels so that no convolution runs at full resolution.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from tokenizer.convolution import Conv, GroupNorm
from tokenizer.precision import precision
from visent.errors import UserError

LARGEST = 65536  # of any count or width in a config; beyond it a file is damaged
MAY_BE_ZERO = ("decoder_res_blocks", "norm_groups")


@dataclass(frozen=True, kw_only=True)
class VQGANConfig:
    """Widths and depths of a VQGAN; an image side shrinks by patch_size * 2 ** (levels - 1)."""

    channels: int
    channel_mult: tuple[int, ...]  # width of each level over `channels`, finest first
    num_res_blocks: int  # of each encoder level
    decoder_res_blocks: int  # of each decoder level; 0: no decoder, the network only encodes
    z_channels: int
    codebook_size: int
    codebook_dim: int
    image_size: int = 256
    patch_size: int = 1  # pixels folded into channels by the stem and unfolded by the head; 1 in the papers' network
    attn_resolutions: tuple[int, ...] = ()  # sides of the feature maps that get self-attention
    mid_attention: bool = False
    norm_groups: int = 32  # of channels, normalised over the whole image; 0: each position by its own channels alone
    signed_pixels: bool = False  # the weights expect pixels in [-1, 1] (taming, LWM) instead of [0, 1]

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), int(field.name not in MAY_BE_ZERO)
            numbers = value if field.type == tuple[int, ...] else (value,)
            if field.type is not bool and not all(type(n) is int and least <= n <= LARGEST for n in numbers):
                raise UserError(f"VQGAN: {field.name} is {value!r}, expected whole numbers in {least}..{LARGEST}")
        if not self.channel_mult:
            raise UserError("VQGAN: channel_mult is empty, expected the width of at least one level")
        if self.image_size % self.downsampling:
            raise UserError(f"VQGAN: image_size {self.image_size} is no multiple of {self.downsampling}, its shrinking")
        for width in {self.channels, *(self.channels * mult for mult in self.channel_mult)}:
            if self.norm_groups and width % self.norm_groups:
                raise UserError(f"VQGAN: width {width} is no multiple of norm_groups {self.norm_groups}")

    @property
    def downsampling(self) -> int:
        """Pixels on each side of one code."""
        return int(self.patch_size * 2 ** (len(self.channel_mult) - 1))

    @property
    def grid(self) -> int:
        """Codes on each side of an image."""
        return self.image_size // self.downsampling

    @property
    def has_decoder(self) -> bool:
        """Whether codes become images again; weights for tokenizing alone carry no decoder."""
        return self.decoder_res_blocks > 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "VQGANConfig":
        """Reads the fields as JSON holds them: tuples are lists there.

        Raises:
            UserError: a field is missing, unknown or impossible.
        """
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**given)
        except TypeError as error:
            raise UserError(f"config of a VQGAN: {error}") from error


F16_8192 = VQGANConfig(
    channels=128,
    channel_mult=(1, 2, 2, 4, 6),
    num_res_blocks=2,
    decoder_res_blocks=3,
    z_channels=64,
    codebook_size=8192,
    codebook_dim=64,
)

# Convolutions run at 32 x 32 and 16 x 16 only, so that two CPU cores encode a hundred images per second. Norms see one
# position each: over the whole image they take the colour out of flat areas, of which masks are made.
SMALL = VQGANConfig(
    channels=16,
    channel_mult=(8, 11),
    num_res_blocks=1,
    decoder_res_blocks=2,
    z_channels=64,
    codebook_size=1024,
    codebook_dim=16,
    patch_size=8,
    norm_groups=0,
)


def fold(x: Float[Array, "n h w c"], patch: int) -> Float[Array, "n fh fw fc"]:
    """Moves each `patch` x `patch` square of pixels into the channels."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // patch, w // patch, patch * patch * c)


def unfold(x: Float[Array, "n fh fw fc"], patch: int) -> Float[Array, "n h w c"]:
    """Undoes `fold`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, patch, patch, c // patch**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * patch, w * patch, c // patch**2)


def _conv(c_in: int, c_out: int, size: int, rngs: nnx.Rngs, **kwargs: Any) -> Conv:
    return Conv(c_in, c_out, (size, size), rngs=rngs, **kwargs)


def _norm(channels: int, groups: int, rngs: nnx.Rngs) -> GroupNorm | nnx.RMSNorm:
    if not groups:
        return nnx.RMSNorm(channels, epsilon=1e-6, rngs=rngs)
    return GroupNorm(channels, num_groups=groups, epsilon=1e-6, rngs=rngs)


class ResBlock(nnx.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, groups: int, rngs: nnx.Rngs) -> None:
        self.norm1 = _norm(c_in, groups, rngs)
        self.conv1 = _conv(c_in, c_out, 3, rngs)
        self.norm2 = _norm(c_out, groups, rngs)
        self.conv2 = _conv(c_out, c_out, 3, rngs)
        self.shortcut = _conv(c_in, c_out, 1, rngs) if c_in != c_out else None

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w d"]:
        """Returns features of the second width."""
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return (x if self.shortcut is None else self.shortcut(x)) + y


class Attention(nnx.Module):
    """Self-attention of one head over all positions, beside a shortcut."""

    def __init__(self, channels: int, groups: int, rngs: nnx.Rngs) -> None:
        self.norm = _norm(channels, groups, rngs)
        self.q, self.k, self.v, self.out = (_conv(channels, channels, 1, rngs) for _ in range(4))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns features of the same shape."""
        n, h, w, c = x.shape
        y = self.norm(x)
        q, k, v = (layer(y).reshape(n, h * w, 1, c) for layer in (self.q, self.k, self.v))
        with jax.default_matmul_precision("highest"):  # of float32; few products, so no precision saves on them
            y = jax.nn.dot_product_attention(q, k, v)
        return x + self.out(y.reshape(n, h, w, c))


class Level(nnx.Module):
    """The blocks of one resolution, each with attention where the config asks for it, then a change of resolution."""

    def __init__(self, widths: list[int], attend: bool, resample: nnx.Module | None, groups: int, rngs: nnx.Rngs):
        pairs = list(itertools.pairwise(widths))
        self.blocks = nnx.List([ResBlock(a, b, groups, rngs) for a, b in pairs])
        self.attentions = nnx.List([Attention(b, groups, rngs) for _, b in pairs] if attend else [])
        self.resample = resample

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Returns features at the next resolution."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[i](x)
        return x if self.resample is None else self.resample(x)


class Downsample(nnx.Module):
    """Halves the sides with a strided convolution, padded right and below only (as taming-transformers does)."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.conv = _conv(channels, channels, 3, rngs, strides=2, padding=((0, 1), (0, 1)))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """Returns features at the new resolution."""
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles the sides by repeating pixels, then a convolution."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.conv = _conv(channels, channels, 3, rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """Returns features at the new resolution."""
        return self.conv(x.repeat(2, axis=1).repeat(2, axis=2))


class Middle(nnx.Module):
    """Two blocks at the coarsest resolution, with attention between them where the config asks for it."""

    def __init__(self, channels: int, attend: bool, groups: int, rngs: nnx.Rngs) -> None:
        self.block1 = ResBlock(channels, channels, groups, rngs)
        self.attention = Attention(channels, groups, rngs) if attend else None
        self.block2 = ResBlock(channels, channels, groups, rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns features of the same shape."""
        x = self.block1(x)
        return self.block2(x if self.attention is None else self.attention(x))


class Encoder(nnx.Module):
    """Pixels to features of the code grid."""

    def __init__(self, config: VQGANConfig, rngs: nnx.Rngs) -> None:
        groups, last = config.norm_groups, len(config.channel_mult) - 1
        self.conv_in = _conv(3 * config.patch_size**2, config.channels, 3, rngs)
        levels, width, side = [], config.channels, config.image_size // config.patch_size
        for i, mult in enumerate(config.channel_mult):
            widths = [width] + [config.channels * mult] * config.num_res_blocks
            width = widths[-1]
            resample = Downsample(width, rngs) if i < last else None
            levels.append(Level(widths, side in config.attn_resolutions, resample, groups, rngs))
            side //= 2
        self.levels = nnx.List(levels)
        self.middle = Middle(width, config.mid_attention, groups, rngs)
        self.norm_out = _norm(width, groups, rngs)
        self.conv_out = _conv(width, config.z_channels, 3, rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n gh gw z"]:
        """Returns features of the code grid."""
        x = self.conv_in(x)
        for level in self.levels:
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(self.middle(x))))


class Decoder(nnx.Module):
    """Features of the code grid to pixels; levels are listed coarsest first."""

    def __init__(self, config: VQGANConfig, rngs: nnx.Rngs) -> None:
        groups, last = config.norm_groups, len(config.channel_mult) - 1
        width, side = config.channels * config.channel_mult[-1], config.grid
        self.conv_in = _conv(config.z_channels, width, 3, rngs)
        self.middle = Middle(width, config.mid_attention, groups, rngs)
        levels = []
        for i, mult in enumerate(reversed(config.channel_mult)):
            widths = [width] + [config.channels * mult] * config.decoder_res_blocks
            width = widths[-1]
            resample = Upsample(width, rngs) if i < last else None
            levels.append(Level(widths, side in config.attn_resolutions, resample, groups, rngs))
            side *= 2
        self.levels = nnx.List(levels)
        self.norm_out = _norm(width, groups, rngs)
        self.conv_out = _conv(width, 3 * config.patch_size**2, 3, rngs)

    def __call__(self, z: Float[Array, "n gh gw z"]) -> Float[Array, "n h w c"]:
        """Returns pixels, folded."""
        x = self.middle(self.conv_in(z))
        for level in self.levels:
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class VQGAN(nnx.Module):
    """Images in [0, 1] to codes of a learned codebook, and back."""

    def __init__(self, config: VQGANConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.encoder = Encoder(config, rngs)
        self.quant_conv = _conv(config.z_channels, config.codebook_dim, 1, rngs)
        draw = nnx.initializers.normal(1.0)
        self.codebook = nnx.Param(draw(rngs.params(), (config.codebook_size, config.codebook_dim)))
        if config.has_decoder:
            self.post_quant_conv = _conv(config.codebook_dim, config.z_channels, 1, rngs)
            self.decoder = Decoder(config, rngs)

    def at(self, name: str) -> "VQGAN":
        """Returns this network, with the same weights, computing in a precision; for inference.

        Raises:
            UserError: there is no such precision.
        """
        chosen, model = precision(name), nnx.merge(*nnx.split(self))
        assert isinstance(model, VQGAN)
        model.set_attributes(Conv, products=chosen.products)
        encoder = model.encoder
        for part in (encoder.levels[-1], encoder.middle, encoder.conv_out, model.quant_conv):
            part.set_attributes(Conv, products=chosen.last)
        return model

    def latents(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n gh gw d"]:
        """Returns the float32 features before quantization; images in [0, 1]."""
        pixels = 2 * images - 1 if self.config.signed_pixels else images
        return self.quant_conv(self.encoder(fold(pixels, self.config.patch_size))).astype(jnp.float32)

    def quantize(self, latents: Float[Array, "*grid d"]) -> Int[Array, "*grid"]:
        """Returns the code nearest to each feature (Euclidean)."""
        return nearest_code(latents, self.codebook[...])

    def encode(self, images: Float[Array, "n h w 3"]) -> Int[Array, "n t"]:
        """Returns the codes of images in [0, 1], row by row."""
        return self.quantize(self.latents(images)).reshape(images.shape[0], -1)

    def reconstruct(self, latents: Float[Array, "n gh gw d"]) -> Float[Array, "n h w 3"]:
        """Returns images, around [0, 1] but not clipped, from features that were quantized or not.

        Raises:
            UserError: the weights carry no decoder.
        """
        if not self.config.has_decoder:
            raise UserError(
                "this tokenizer holds an encoder and a codebook but no decoder: it turns images into codes and not "
                "back; decode with the complete checkpoint (`visent tokenizer card` prints the fingerprint: both agree)"
            )
        pixels = unfold(self.decoder(self.post_quant_conv(latents)).astype(jnp.float32), self.config.patch_size)
        return (pixels + 1) / 2 if self.config.signed_pixels else pixels

    def decode(self, codes: Int[Array, "n t"]) -> Float[Array, "n h w 3"]:
        """Returns images in [0, 1] of whole code grids."""
        grid = self.config.grid
        latents = self.codebook[...][codes.reshape(-1, grid, grid)]
        return jnp.clip(self.reconstruct(latents), 0.0, 1.0)


def nearest_code(latents: Float[Array, "*grid d"], codebook: Float[Array, "k d"]) -> Int[Array, "*grid"]:
    """Returns the index of the nearest row of the codebook; |z|^2 is the same for all rows and left out."""
    # Full precision: accelerators would otherwise round the products to bfloat16 and change codes.
    products = jnp.einsum("...d,kd->...k", latents, codebook, precision=jax.lax.Precision.HIGHEST)
    return jnp.argmin(jnp.sum(codebook**2, axis=-1) - 2 * products, axis=-1)
