"""Random numbers that come from names, never from time, position or worker."""

import hashlib

import numpy as np


def generator(*names: object) -> np.random.Generator:
    """Returns a generator that is a pure function of the names (their text, in order)."""
    text = "\0".join(str(name) for name in names)
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])
    return np.random.Generator(np.random.PCG64(seed))


def of_pixels(image: np.ndarray) -> str:
    """Returns a name for the pixels of a picture: what is drawn with it differs from frame to frame of a clip."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
