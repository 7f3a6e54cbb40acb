"""taming-transformers' layout: a lightning `.ckpt` whose `state_dict` also holds the losses' networks.

The config is a YAML file kept elsewhere, so it is read off the shapes. Images are in [-1, 1], norms have 32 groups, and
the middle always attends.
"""

from tokenizer.checkpoints.layout import Layout, common_lacks, renamed, uneven
from tokenizer.vqgan import VQGANConfig

GROUPS = 32
LEFT_OUT = ("loss.",)  # discriminator and perceptual network: they took part in training only

REPLACEMENTS = (
    ("codebook", "quantize.embedding.weight"),
    ("blocks", "block"),
    ("attentions", "attn"),
    ("attention.out", "attn_1.proj_out"),
    ("attention", "attn_1"),
    ("middle", "mid"),
    ("block1", "block_1"),
    ("block2", "block_2"),
    ("shortcut", "nin_shortcut"),
    ("kernel", "weight"),
    ("scale", "weight"),
)


def rename(name: str, levels: int) -> str:
    """Returns taming's name; its decoder counts levels from the finest, ours from the coarsest."""
    part, *rest = name.split(".")
    if rest and rest[0] == "levels":
        down = part == "encoder"
        level = int(rest[1]) if down else levels - 1 - int(rest[1])
        rest[:2] = ["down" if down else "up", str(level)]
        if rest[2] == "resample":
            rest[2] = "downsample" if down else "upsample"
        if rest[2] == "attentions" and rest[4] == "out":
            rest[4] = "proj_out"
    return renamed(".".join([part, *rest]), REPLACEMENTS)


def lacks(config: VQGANConfig) -> str | None:
    """Why taming's network cannot be this one."""
    if not config.mid_attention:
        return "its middle has no attention, there it always has"
    return common_lacks(config, groups=GROUPS, noted=False) or uneven(config)


LAYOUT = Layout(
    name="taming",
    about="taming-transformers .ckpt: a lightning checkpoint with state_dict",
    rename=rename,
    order="torch",
    signed_pixels=True,
    lacks=lacks,
)
