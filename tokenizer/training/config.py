"""What decides the weights of a trained tokenizer, besides the pictures."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from tokenizer.vqgan import SMALL, VQGANConfig
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, besides the pictures."""

    network: VQGANConfig = SMALL
    preset: str = "crop"
    rendering_shares: tuple[float, ...] = ()  # of the crops, for each folder of renderings; photos have the rest
    steps: int = 4500
    batch_size: int = 16  # crops per step
    crop: int = 128  # pixels
    full_every: int = 4  # each such step takes whole images instead, as many as have the pixels of the crops
    free_steps: int = 200  # at the start, without quantization
    warmup_steps: int = 200
    decay_fraction: float = 0.4  # of all steps, at the end, in which the learning rate falls to zero
    learning_rate: float = 1e-3
    clip_norm: float = 1.0
    ema_decay: float = 0.0  # of the running mean of the weights, which is what a run leaves; 0: the weights themselves
    l1_weight: float = 0.1
    chroma_weight: float = 4.0  # of the coarse colour error; without it red and green turn brown
    commitment: float = 0.25
    codebook_decay: float = 0.99
    revive_below: float = 0.1  # of the mean number of choices
    seed: int = 0
    holdout: int = 40  # pictures of each source, never trained on
    max_pictures: int = 8000

    def __post_init__(self) -> None:
        if self.crop % self.network.downsampling:
            raise UserError(f"crop {self.crop} is no multiple of {self.network.downsampling}, the pixels of one code")
        if self.steps <= self.free_steps:
            raise UserError(f"steps {self.steps}: expected more than the {self.free_steps} steps without quantization")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay {self.ema_decay}: expected 0 (off) or a decay below 1, such as 0.999")
        shares = self.rendering_shares
        if any(share <= 0 for share in shares) or sum(shares) >= 1:
            raise UserError(
                f"shares of renderings {', '.join(f'{share:g}' for share in shares)}: expected each above 0 and their "
                f"sum, {sum(shares):g}, below 1; the photos have the rest"
            )

    @property
    def full_batch_size(self) -> int:
        """Whole images in a step that takes them."""
        return max(1, self.batch_size * self.crop**2 // self.network.image_size**2)

    @property
    def fall_begins(self) -> int:
        """The step from which the learning rate falls."""
        return max(self.warmup_steps, self.steps - int(self.steps * self.decay_fraction))


def default_recipe(**changes: Any) -> TrainConfig:
    """Returns the recipe of the tokenizer that ships with visent."""
    return dataclasses.replace(TrainConfig(), **changes)
