"""What a classifier is and how it trains."""

from dataclasses import dataclass

from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """The probe: a model's layers over patches of pixels in place of codes, average pooling, and a linear head."""

    image_size: int = 256  # pixels on each side; with patches of 16, as many positions as an image has codes
    patch: int = 16
    train_layers: bool = True  # false: only the patch embedding and the head learn
    label_smoothing: float = 0.1
    smallest_crop: float = 0.08  # of the picture's area, in random crops; 1 takes the whole picture
    reading_threads: int = 0  # 0 for one on each core

    def __post_init__(self) -> None:
        if self.patch < 1 or self.image_size < self.patch or self.image_size % self.patch:
            raise UserError(
                f"classify.image_size is {self.image_size}: expected a multiple of classify.patch, {self.patch}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"classify.label_smoothing is {self.label_smoothing}: expected 0 up to, not including, 1")
        if not 0 < self.smallest_crop <= 1:
            raise UserError(f"classify.smallest_crop is {self.smallest_crop}: expected more than 0, up to 1")
        if self.reading_threads < 0:
            raise UserError(f"classify.reading_threads is {self.reading_threads}: expected 0 or more")

    @property
    def positions(self) -> int:
        """Patches of one picture."""
        return (self.image_size // self.patch) ** 2
