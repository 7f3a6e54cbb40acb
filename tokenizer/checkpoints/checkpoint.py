"""A checkpoint in memory, whatever its layout was on disk: a network's config and its tensors under our names."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tokenizer.card import TokenizerCard
from tokenizer.vqgan import VQGANConfig

ENCODING = re.compile(r"(encoder|quant_conv|codebook)(\.|$)")  # what an image passes through to become codes
DECODING = re.compile(r"(post_quant_conv|decoder)\.")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights of a VQGAN: convolutions are (height, width, in, out), as in the network of `tokenizer.vqgan`."""

    layout: str  # where they come from, one of `tokenizer.checkpoints.LAYOUTS`
    config: VQGANConfig
    tensors: Mapping[str, np.ndarray]
    stored_dtype: str  # of the tensors in the file
    notes: Mapping[str, str] = field(default_factory=dict)  # for the card: which file, what of it was left out

    @cached_property
    def weights_sha256(self) -> str:
        """The digest of what decides codes: the same weights have the same one in every layout."""
        return _digest(_encoding_config(self.config), _chosen(self.tensors, ENCODING))

    @cached_property
    def decoder_sha256(self) -> str:
        """The digest of what turns codes into images; empty where there is no decoder."""
        return _digest({}, _chosen(self.tensors, DECODING)) if self.config.has_decoder else ""

    def card(
        self, *, name: str, preset: str = "crop", precision: str = "float32", about: Mapping[str, str] | None = None
    ) -> TokenizerCard:
        """Returns the card of a tokenizer of these weights."""
        return TokenizerCard(
            name=name,
            weights_sha256=self.weights_sha256,
            decoder_sha256=self.decoder_sha256,
            preset=preset,
            image_size=self.config.image_size,
            grid=self.config.grid,
            codebook_size=self.config.codebook_size,
            precision=precision,
            about=about or {},
        )


def _encoding_config(config: VQGANConfig) -> dict[str, object]:
    """The part of the config that an image meets on its way to codes, each fact in one way of writing only.

    The list is closed: a field that joins the config later comes in only where it is not at its default, else every
    fingerprint on disk would change.
    """
    sides = [config.image_size // config.patch_size // 2**level for level in range(len(config.channel_mult))]
    return {
        "channels": config.channels,
        "channel_mult": config.channel_mult,
        "num_res_blocks": config.num_res_blocks,
        "z_channels": config.z_channels,
        "codebook_size": config.codebook_size,
        "codebook_dim": config.codebook_dim,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "attn_resolutions": [side for side in sides if side in config.attn_resolutions],
        "mid_attention": config.mid_attention,
        "norm_groups": config.norm_groups,
        "signed_pixels": config.signed_pixels,
    }


def _chosen(tensors: Mapping[str, np.ndarray], part: re.Pattern[str]) -> Iterable[tuple[str, np.ndarray]]:
    return ((name, tensors[name]) for name in sorted(tensors) if part.match(name))


def _digest(config: Mapping[str, object], tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    digest = hashlib.sha256(_canonical(config))
    for name, tensor in tensors:
        digest.update(_canonical([name, tensor.shape]))
        digest.update(np.ascontiguousarray(tensor, "<f4").data)
    return digest.hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
