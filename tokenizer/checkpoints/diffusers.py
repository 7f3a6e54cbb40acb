"""diffusers' layout of VQModel: a folder, often `vqvae/`, of `config.json` and `diffusion_pytorch_model.safetensors`.

Attention is a property of whole levels and made of matrices; files from before diffusers 0.15 call them otherwise.
"""

import re
from collections.abc import Mapping
from typing import Any

from tokenizer.checkpoints.layout import Facts, Layout, common_lacks, renamed, uneven
from tokenizer.vqgan import VQGANConfig
from visent.errors import UserError

CLASSES = ("VQModel",)
DOWN, UP = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
# What VQModel takes where its config.json is silent.
DEFAULTS: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 3,
    "num_vq_embeddings": 256,
    "norm_num_groups": 32,
    "vq_embed_dim": None,
    "norm_type": "group",
    "mid_block_add_attention": True,
}
REPLACEMENTS = (
    ("codebook", "quantize.embedding.weight"),
    ("encoder.levels", "encoder.down_blocks"),
    ("decoder.levels", "decoder.up_blocks"),
    ("blocks", "resnets"),
    ("middle.block1", "mid_block.resnets.0"),
    ("middle.block2", "mid_block.resnets.1"),
    ("middle.attention", "mid_block.attentions.0"),
    ("shortcut", "conv_shortcut"),
    ("norm_out", "conv_norm_out"),
    ("kernel", "weight"),
    ("scale", "weight"),
)
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def rename(name: str, levels: int) -> str:
    """Returns diffusers' name; its decoder counts levels from the coarsest, as ours does."""
    sampler = "downsamplers.0" if name.startswith("encoder") else "upsamplers.0"
    theirs = renamed(name, (*REPLACEMENTS, ("resample", sampler)))
    return re.sub(r"(\.attentions\.\d+\.)(\w+)", lambda match: match[1] + ATTENTION[match[2]], theirs)


def modern(name: str) -> str:
    """Returns today's name of a parameter that an old file may call otherwise."""
    return re.sub(
        r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.", lambda m: f"{m[1]}{OLD_ATTENTION[m[2]]}.", name
    )


def facts(values: Mapping[str, Any]) -> Facts:
    """Reads a config.json.

    Raises:
        UserError: it asks for a network that is not this one.
    """
    theirs = {**DEFAULTS, **values}
    for key in ("in_channels", "out_channels", "act_fn", "norm_type"):
        if theirs[key] != DEFAULTS[key]:
            raise UserError(f"VQModel config: {key} is {theirs[key]!r}, expected {DEFAULTS[key]!r}")
    widths = theirs.get("block_out_channels") or [64]
    attended = _attended(theirs, len(widths))
    size = int(theirs.get("_image_size", 256))
    if any(width % widths[0] for width in widths):
        raise UserError(f"VQModel config: block_out_channels {widths} are no multiples of the first")
    return {
        "channels": widths[0],
        "channel_mult": tuple(width // widths[0] for width in widths),
        "num_res_blocks": theirs["layers_per_block"],
        "decoder_res_blocks": theirs["layers_per_block"] + 1,
        "z_channels": theirs["latent_channels"],
        "codebook_size": theirs["num_vq_embeddings"],
        "codebook_dim": theirs["vq_embed_dim"] or theirs["latent_channels"],
        "image_size": size,
        "attn_resolutions": tuple(size // 2**level for level in attended),
        "mid_attention": theirs["mid_block_add_attention"],
        "norm_groups": theirs["norm_num_groups"],
        "signed_pixels": bool(theirs.get("_signed_pixels", False)),
    }


def _attended(theirs: Mapping[str, Any], levels: int) -> list[int]:
    """Returns the levels with attention, finest first; the decoder's list runs the other way and must agree."""
    down = theirs.get("down_block_types") or [DOWN[0]] * levels
    up = theirs.get("up_block_types") or [UP[0]] * levels
    if set(down) - set(DOWN) or set(up) - set(UP):
        raise UserError(f"VQModel config: blocks {sorted({*down, *up})}, expected {[*DOWN, *UP]}")
    marks = [[kind.startswith("Attn") for kind in kinds] for kinds in (down, up[::-1])]
    if marks[0] != marks[1] or len(down) != levels:
        raise UserError(
            f"VQModel config: down_block_types {down} and up_block_types {up} do not mirror each other over "
            f"{levels} levels; expected the same attention in the encoder and the decoder"
        )
    return [level for level, mark in enumerate(marks[0]) if mark]


def to_json(config: VQGANConfig) -> dict[str, Any]:
    """Returns the config.json of a network; diffusers passes over the names that begin with an underscore."""
    sides = [config.image_size // 2**level for level in range(len(config.channel_mult))]
    attend = [side in config.attn_resolutions for side in sides]
    return {
        "_class_name": CLASSES[0],
        "_image_size": config.image_size,
        "_signed_pixels": config.signed_pixels,
        **DEFAULTS,
        "block_out_channels": [config.channels * mult for mult in config.channel_mult],
        "down_block_types": [DOWN[mark] for mark in attend],
        "up_block_types": [UP[mark] for mark in reversed(attend)],
        "layers_per_block": config.num_res_blocks,
        "latent_channels": config.z_channels,
        "num_vq_embeddings": config.codebook_size,
        "vq_embed_dim": config.codebook_dim,
        "norm_num_groups": config.norm_groups,
        "mid_block_add_attention": config.mid_attention,
        "lookup_from_codebook": True,
        "sample_size": config.image_size,
    }


def lacks(config: VQGANConfig) -> str | None:
    """Why VQModel cannot be this network."""
    if config.channel_mult[0] != 1:
        return f"its first level has {config.channel_mult[0]} times the width of its stem, there they are equal"
    return common_lacks(config, groups=None, noted=True) or uneven(config)


LAYOUT = Layout(
    name="diffusers",
    about="diffusers VQModel: a folder, or its vqvae/, of config.json and diffusion_pytorch_model.safetensors",
    rename=rename,
    order="torch-linear",
    signed_pixels=False,
    facts=facts,
    to_json=to_json,
    lacks=lacks,
)
