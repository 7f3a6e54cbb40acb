"""open-muse's layout, also LVM's `vqvae_ckpts`: `config.json` beside `pytorch_model.bin` or `model.safetensors`.

Parameters have taming's names. Images are in [0, 1], norms have 32 groups.
"""

from collections.abc import Mapping
from typing import Any

from tokenizer.checkpoints.layout import Facts, Layout, common_lacks, uneven
from tokenizer.checkpoints.taming import GROUPS, rename
from tokenizer.vqgan import VQGANConfig
from visent.errors import UserError

CLASSES = ("VQGANModel",)
# What VQGANModel takes where its config.json is silent.
DEFAULTS: Mapping[str, Any] = {
    "resolution": 256,
    "num_channels": 3,
    "hidden_channels": 128,
    "channel_mult": [1, 1, 2, 2, 4],
    "num_res_blocks": 2,
    "decoder_res_blocks": None,
    "extra_mid_res_blocks": None,
    "decoder_hidden_channels": None,
    "decoder_channel_mult": None,
    "attn_resolutions": [16],
    "no_attn_mid_block": False,
    "z_channels": 256,
    "num_embeddings": 1024,
    "quantized_embed_dim": 256,
    "resample_with_conv": True,
}


def facts(values: Mapping[str, Any]) -> Facts:
    """Reads a config.json.

    Raises:
        UserError: it asks for a network that is not this one.
    """
    muse = {**DEFAULTS, **values}
    fixed = {
        "num_channels": (3,),
        "resample_with_conv": (True,),
        "extra_mid_res_blocks": (None, 0),
        "decoder_hidden_channels": (None, muse["hidden_channels"]),
        "decoder_channel_mult": (None, muse["channel_mult"]),
    }
    for key, allowed in fixed.items():
        if muse[key] not in allowed:
            raise UserError(f"muse config: {key} is {muse[key]!r}, expected {allowed[0]!r}: another network than VQGAN")
    blocks = muse["num_res_blocks"] if muse["decoder_res_blocks"] is None else muse["decoder_res_blocks"]
    return {
        "channels": muse["hidden_channels"],
        "channel_mult": tuple(muse["channel_mult"]),
        "num_res_blocks": muse["num_res_blocks"],
        "decoder_res_blocks": blocks + 1,
        "z_channels": muse["z_channels"],
        "codebook_size": muse["num_embeddings"],
        "codebook_dim": muse["quantized_embed_dim"],
        "image_size": muse["resolution"],
        "attn_resolutions": tuple(muse["attn_resolutions"]),
        "mid_attention": not muse["no_attn_mid_block"],
        "signed_pixels": bool(muse.get("_signed_pixels", False)),
    }


def to_json(config: VQGANConfig) -> dict[str, Any]:
    """Returns the config.json of a network."""
    return {
        "_class_name": CLASSES[0],
        **DEFAULTS,
        "resolution": config.image_size,
        "hidden_channels": config.channels,
        "channel_mult": list(config.channel_mult),
        "num_res_blocks": config.num_res_blocks,
        "decoder_res_blocks": None if uneven(config) is None else config.decoder_res_blocks - 1,
        "attn_resolutions": list(config.attn_resolutions),
        "no_attn_mid_block": not config.mid_attention,
        "z_channels": config.z_channels,
        "num_embeddings": config.codebook_size,
        "quantized_embed_dim": config.codebook_dim,
        "dropout": 0.0,
        "commitment_cost": 0.25,
        **({"_signed_pixels": True} if config.signed_pixels else {}),
    }


def skips(config: VQGANConfig) -> str | None:
    """What open-muse's network has and does not run."""
    if config.attn_resolutions and 1 in (config.num_res_blocks, config.decoder_res_blocks):
        return "open-muse passes over the attention of a level with one block"
    return None


def lacks(config: VQGANConfig) -> str | None:
    """Why open-muse's network cannot be this one."""
    return skips(config) or common_lacks(config, groups=GROUPS, noted=True)


LAYOUT = Layout(
    name="muse",
    about="open-muse and LVM: config.json with pytorch_model.bin or model.safetensors",
    rename=rename,
    order="torch",
    signed_pixels=False,
    facts=facts,
    to_json=to_json,
    lacks=lacks,
    skips=skips,
)
