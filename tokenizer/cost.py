"""What encoding one image costs in arithmetic."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from tokenizer.tokenizer import Tokenizer
from tokenizer.vqgan import VQGAN


def flops_per_image(tokenizer: Tokenizer) -> float:
    """Returns the floating-point operations of encoding one image by the definition of a convolution.

    The compiler counts them; faster algorithms for the same numbers do fewer.
    """
    config = tokenizer.model.config
    model = nnx.eval_shape(lambda: VQGAN(config, nnx.Rngs(0)))
    image = jnp.zeros((1, config.image_size, config.image_size, 3), jnp.float32)
    counted: Any = nnx.jit(VQGAN.encode).lower(model, image).cost_analysis()
    return float(counted["flops"])
