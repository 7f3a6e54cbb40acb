"""Reads a network's config off the shapes of its tensors, for layouts that keep no config beside them."""

from collections.abc import Callable
from typing import Any

from tokenizer.vqgan import VQGANConfig
from visent.errors import UserError

Shape = tuple[int, ...]
Shapes = Callable[[str], Shape | None]  # our name of a parameter -> its shape in our order of axes


def infer(shape_of: Shapes, *, image_size: int, **kept: Any) -> VQGANConfig:
    """Returns the config of a network from its shapes; `kept` are the fields that shapes do not tell.

    Raises:
        UserError: a tensor is missing without which nothing can be told, or the widths are impossible.
    """

    def shape(name: str) -> Shape:
        found = shape_of(name)
        if found is None:
            raise UserError(f"there is no tensor for {name}, from which the network's shape is read")
        return found

    def count(pattern: str) -> int:
        n = 0
        while shape_of(pattern.format(n)) is not None:
            n += 1
        return n

    channels, pixels = shape("encoder.conv_in.kernel")[-1], shape("encoder.conv_in.kernel")[-2]
    levels = count("encoder.levels.{}.blocks.0.conv1.kernel")
    widths = [shape(f"encoder.levels.{level}.blocks.0.conv1.kernel")[-1] for level in range(levels)]
    patch = round((pixels / 3) ** 0.5)
    if pixels != 3 * patch**2 or not widths or any(width % channels for width in widths):
        raise UserError(f"{pixels} channels in and levels of width {widths} over {channels} are no VQGAN of RGB images")
    attended = [level for level in range(levels) if shape_of(f"encoder.levels.{level}.attentions.0.norm.scale")]
    codes, dim = shape("codebook")
    return VQGANConfig(
        channels=channels,
        channel_mult=tuple(width // channels for width in widths),
        num_res_blocks=count("encoder.levels.0.blocks.{}.conv1.kernel"),
        decoder_res_blocks=count("decoder.levels.0.blocks.{}.conv1.kernel"),
        z_channels=shape("encoder.conv_out.kernel")[-1],
        codebook_size=codes,
        codebook_dim=dim,
        image_size=image_size,
        patch_size=patch,
        attn_resolutions=tuple(image_size // patch // 2**level for level in attended),
        mid_attention=shape_of("encoder.middle.attention.norm.scale") is not None,
        **kept,
    )
