"""LWM's layout: the parameter tree of a Flax (linen) network, pickled or as msgpack.

Linen numbers modules by class in the order of their calls. Images are in [-1, 1], norms have 32 groups; there is no
config, so it is read off the shapes.
"""

import re

from tokenizer.checkpoints.layout import Layout, common_lacks, renamed, uneven
from tokenizer.checkpoints.taming import GROUPS
from tokenizer.vqgan import VQGANConfig

RES_BLOCK = {"norm1": "GroupNorm_0", "conv1": "Conv_0", "norm2": "GroupNorm_1", "conv2": "Conv_1", "shortcut": "Conv_2"}
ATTENTION = {"norm": "GroupNorm_0", "q": "Conv_0", "k": "Conv_1", "v": "Conv_2", "out": "Conv_3"}
REPLACEMENTS = (
    ("codebook", "quantize.embeddings"),
    ("conv_in", "Conv_0"),
    ("norm_out", "GroupNorm_0"),
    ("conv_out", "Conv_1"),
    ("middle", "MidBlock_0"),
    ("block1", "ResnetBlock_0"),
    ("block2", "ResnetBlock_1"),
    ("attention", "AttnBlock_0"),
)


def rename(name: str, levels: int) -> str:
    """Returns LWM's name; its decoder calls levels from the coarsest, as ours lists them."""
    down = name.startswith("encoder")
    name = re.sub(r"(blocks\.\d+|block[12])\.(\w+)", lambda m: f"{m[1]}.{RES_BLOCK[m[2]]}", name)
    name = re.sub(r"(attentions\.\d+|attention)\.(\w+)", lambda m: f"{m[1]}.{ATTENTION[m[2]]}", name)
    name = re.sub(r"levels\.(\d+)", r"DownsamplingBlock_\1" if down else r"UpsamplingBlock_\1", name)
    name = re.sub(r"blocks\.(\d+)", r"ResnetBlock_\1", name)
    name = re.sub(r"attentions\.(\d+)", r"AttnBlock_\1", name)
    name = name.replace("resample.conv", "Downsample_0.Conv_0" if down else "Upsample_0.Conv_0")
    return renamed(name, REPLACEMENTS)


def lacks(config: VQGANConfig) -> str | None:
    """Why LWM's network cannot be this one."""
    return common_lacks(config, groups=GROUPS, noted=False) or uneven(config)


LAYOUT = Layout(
    name="lwm",
    about="LWM: a pickled or msgpack tree of Flax parameters",
    rename=rename,
    order="ours",
    signed_pixels=True,
    lacks=lacks,
)
