"""The samples of one part: what is given, and what is known of the answer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from manifests.canonical import canonical_json
from manifests.legend import Legend


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Prompts with their truth. A result is the last `kept` codes of the prompt and all that is generated.

    So a clip is judged whole, with the frames that were given, and an image with the half that was given. Results
    have `frames` images, 1 for stills; all are of the tokenizer's size.
    """

    keys: Sequence[str]  # of the samples; each one's seed comes from its key, so that no other sample changes it
    prompt: UInt16[np.ndarray, "n p"]
    kept: int = 0  # codes at the prompt's end that belong to the result
    new_tokens: int
    frames: int = 1
    truth_codes: UInt16[np.ndarray, "n t"]  # of the true result, t = kept + new_tokens; decoded they are the ceiling
    truth: Callable[[Int64[np.ndarray, " m"]], UInt8[np.ndarray, "m f s s 3"]]  # real pixels of results by number
    classes: Sequence[str] = ()  # of each sample, where a figure is a mean over classes
    legend: Legend | None = None  # of results that are label maps
    notes: Sequence[str] = field(default_factory=tuple)  # what the table says below: prompts' keys, what was left out

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.prompt) or len(self.classes) not in (0, len(self.keys)):
            raise ValueError(f"{len(self.keys)} keys, {len(self.prompt)} prompts and {len(self.classes)} classes")
        if self.truth_codes.shape[1] != self.kept + self.new_tokens or self.kept > self.prompt.shape[1]:
            raise ValueError(
                f"results of {self.truth_codes.shape[1]} codes, of which {self.kept} of the {self.prompt.shape[1]} "
                f"that are given are kept and {self.new_tokens} are new"
            )

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """sha256 of all that decides the generated codes and their ceiling: keys, prompts, truth and their lengths."""
        shape = {"kept": self.kept, "new": self.new_tokens, "frames": self.frames, "prompt": self.prompt.shape[1]}
        found = hashlib.sha256(canonical_json({**shape, "keys": list(self.keys)}).encode())
        for codes in (self.prompt, self.truth_codes):
            found.update(np.ascontiguousarray(codes, "<u2").data)
        return found.hexdigest()
