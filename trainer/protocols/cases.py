"""The samples of one part: what is given, and what is known of the answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

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

    def __len__(self) -> int:
        return len(self.keys)
