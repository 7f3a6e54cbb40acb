"""Tells which project's layout a file of weights has, by the names of its tensors and its config."""

from tokenizer.checkpoints import diffusers, lwm, muse, taming
from tokenizer.checkpoints.files import Stored
from tokenizer.checkpoints.layout import Layout
from visent.errors import UserError

FOREIGN = {layout.name: layout for layout in (muse.LAYOUT, diffusers.LAYOUT, taming.LAYOUT, lwm.LAYOUT)}
EXPECTED = "; ".join(
    ["visent: a folder of card.json, config.json and model.safetensors", *(layout.about for layout in FOREIGN.values())]
)
CLASSES = {"muse": muse.CLASSES, "diffusers": diffusers.CLASSES}
LISTED = 5  # names of tensors that an error message shows


def sniff(stored: Stored) -> Layout:
    """Returns the layout of a file.

    Raises:
        UserError: the tensors are of no VQGAN that visent knows, or the config is of another network.
    """
    name = _by_tensors(stored)
    kind = (stored.config or {}).get("_class_name")
    if kind is not None and kind not in CLASSES.get(name, (kind,)):
        raise UserError(
            f"{stored.file.parent}/config.json describes a {kind}, expected {' or '.join(CLASSES[name])}: "
            "it is no VQGAN, or not the config of these weights"
        )
    return FOREIGN[name]


def _by_tensors(stored: Stored) -> str:
    names = list(stored.tensors)
    starts = {".".join(name.split(".")[:2]) for name in names}
    if any(name.startswith("quantize.embed.") for name in names):
        raise UserError(
            f"{stored.file} has a Gumbel quantizer (quantize.embed, quantize.proj), which draws codes by logits; "
            "expected one that takes the nearest code (quantize.embedding)"
        )
    if "encoder.levels" in starts:
        raise UserError(f"{stored.file} has visent's tensors but no card.json beside it: name the whole folder")
    if any("DownsamplingBlock_0" in start for start in starts):
        return "lwm"
    if "encoder.down_blocks" in starts:
        return "diffusers"
    if "encoder.down" in starts:
        # open-muse kept taming's names: what differs is the file around them.
        return "taming" if stored.lightning or stored.left_out or stored.file.suffix == ".ckpt" else "muse"
    shown = ", ".join(f"{name} {tensor.shape}" for name, tensor in list(stored.tensors.items())[:LISTED])
    raise UserError(
        f"{stored.file} holds no VQGAN that visent knows: {len(names)} tensors, {shown or 'none'}; expected {EXPECTED}"
    )
