"""What decides the weights of a trained tokenizer, besides the pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tokenizer.vqgan import SMALL, VQGANConfig
from visent.errors import UserError, unknown

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"activations": ("float32", "bfloat16"), "codebook": ("ema", "gradient")}
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, besides the pictures. A weight of 0 leaves a loss out."""

    recipe: str = "default"
    network: VQGANConfig = SMALL
    init: str = ""  # fingerprint of the tokenizer that the run starts from; "": random weights
    preset: str = "crop"
    rendering_shares: tuple[float, ...] = ()  # of the crops, for each folder of renderings; photos have the rest
    frames_per_second: float = 1.0  # of videos
    frames_per_video: int = 32  # at most
    holdout: int = 40  # pictures of each source, never trained on
    max_pictures: int = 8000  # held decoded in memory; others are read when drawn, which gives the same crops
    seed: int = 0

    steps: int = 5000
    batch_size: int = 16  # crops per step
    crop: int = 128  # pixels
    full_every: int = 4  # each such step takes whole images instead, as many as have the pixels of the crops; 0: none
    free_steps: int = 200  # at the start, without quantization
    warmup_steps: int = 200
    decay_fraction: float = 0.4  # of all steps, at the end, in which the learning rate falls to zero
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam
    clip_norm: float = 1.0
    ema_decay: float = 0.0  # of the running mean of the weights, which is what a run leaves; 0: the weights themselves
    activations: str = "float32"  # or bfloat16; weights, norms, losses and distances are float32 always

    pixel_weight: float = 1 / 0.06  # of the three pixel losses; 0.06 is the variance of photos' pixels
    l2_weight: float = 1.0
    l1_weight: float = 0.1
    chroma_weight: float = 4.0  # of the coarse colour error; without it red and green turn brown
    perceptual: str = ""  # fingerprint of the weights of the perceptual network
    perceptual_weight: float = 0.0
    perceptual_from: int = 0  # the step
    perceptual_crop: int = 0  # pixels on each side of a random part of each crop; 0: the whole crop
    perceptual_depth: int = 5  # stages of VGG16
    adversarial_weight: float = 0.0
    adversarial_from: int = 0  # the step
    discriminator_channels: int = 64
    discriminator_layers: int = 3

    codebook: str = "ema"  # running means of the features that chose each code; or by gradient
    commitment: float = 0.25
    codebook_weight: float = 1.0  # of the gradient codebook's loss
    codebook_decay: float = 0.99  # of the running means of features and choices
    revive_below: float = 0.1  # of the mean number of choices
    min_usage: float = 0.1  # of the codebook; below it for `patience` steps the codebook counts as lost
    patience: int = 500

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        self._check_sizes()
        self._check_shares()

    @property
    def full_batch_size(self) -> int:
        """Whole images in a step that takes them."""
        return max(1, self.batch_size * self.crop**2 // self.network.image_size**2)

    @property
    def fall_begins(self) -> int:
        """The step from which the learning rate falls."""
        return max(self.warmup_steps, self.steps - int(self.steps * self.decay_fraction))

    def _check_sizes(self) -> None:
        if self.crop % self.network.downsampling:
            raise UserError(f"crop {self.crop} is no multiple of {self.network.downsampling}, the pixels of one code")
        if self.chroma_weight and self.crop % 8:
            raise UserError(
                f"crop {self.crop} is no multiple of 8, the pixels of one square of the coarse colour error"
            )
        if self.steps <= self.free_steps:
            raise UserError(f"steps {self.steps}: expected more than the {self.free_steps} steps without quantization")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay {self.ema_decay}: expected 0 (off) or a decay below 1, such as 0.999")
        patch = 3 * 2**self.discriminator_layers
        if self.adversarial_weight and self.crop < patch:
            raise UserError(
                f"crop {self.crop}: {self.discriminator_layers} layers of discriminator need {patch} pixels"
            )
        if not 1 <= self.perceptual_depth <= 5:
            raise UserError(f"perceptual_depth {self.perceptual_depth}: expected 1 to 5, the stages of VGG16")
        if 0 < self.perceptual_crop < 2 ** (self.perceptual_depth - 1):
            raise UserError(
                f"perceptual_crop {self.perceptual_crop}: too few pixels for {self.perceptual_depth} stages"
            )

    def _check_shares(self) -> None:
        shares = self.rendering_shares
        if any(share <= 0 for share in shares) or sum(shares) >= 1:
            raise UserError(
                f"shares of renderings {', '.join(f'{share:g}' for share in shares)}: expected each above 0 and their "
                f"sum, {sum(shares):g}, below 1; the photos have the rest"
            )
        if self.frames_per_second <= 0 or self.frames_per_video < 1:
            raise UserError(
                f"frames_per_second {self.frames_per_second}, frames_per_video {self.frames_per_video}: expected a "
                "rate above 0 and at least 1 frame"
            )
