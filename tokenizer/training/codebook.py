"""How a codebook is learned: as running means of the features that chose each code, or by gradient.

Running means: VQ-VAE-2 (Razavi et al. 2019, arXiv:1906.00446, appendix A.1). Gradient: VQ-VAE (van den Oord et al.
2017, arXiv:1711.00937, eq. 3), as in VQGAN. In both, codes that nothing chooses are moved onto features of the batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tokenizer.training.config import TrainConfig


def count(counts: Float[Array, "k"], codes: Int[Array, "n"], config: TrainConfig) -> Float[Array, "k"]:
    """Moves the running mean of the choices per step of each code."""
    decay = config.codebook_decay
    return decay * counts + (1 - decay) * jnp.zeros(len(counts)).at[codes].add(1.0)


def follow(
    counts: Float[Array, "k"],
    sums: Float[Array, "k d"],
    features: Float[Array, "n d"],
    codes: Int[Array, "n"],
    key: Array,
    config: TrainConfig,
) -> tuple[Float[Array, "k"], Float[Array, "k d"], Int[Array, ""]]:
    """Moves the running means of the codebook towards the features that chose each code, and revives dead codes.

    Returns the new counts and sums, whose quotient is the codebook, and how many codes were moved.
    """
    counts = count(counts, codes, config)
    decay, mean = config.codebook_decay, len(codes) / len(counts)
    sums = decay * sums + (1 - decay) * jnp.zeros_like(sums).at[codes].add(features)
    dead, fresh = _fresh(counts, features, mean, key, config)
    counts = jnp.where(dead, mean, counts)
    return counts, jnp.where(dead[:, None], fresh * mean, sums), jnp.sum(dead)


def revive(
    counts: Float[Array, "k"],
    codebook: Float[Array, "k d"],
    features: Float[Array, "n d"],
    codes: Int[Array, "n"],
    key: Array,
    config: TrainConfig,
) -> tuple[Float[Array, "k"], Float[Array, "k d"], Int[Array, ""]]:
    """Moves dead codes of a codebook that is learned by gradient onto features; the others stay.

    Returns the new counts, the codebook, and how many codes were moved.
    """
    counts = count(counts, codes, config)
    mean = len(codes) / len(counts)
    dead, fresh = _fresh(counts, features, mean, key, config)
    return jnp.where(dead, mean, counts), jnp.where(dead[:, None], fresh, codebook), jnp.sum(dead)


def _fresh(counts: Array, features: Array, mean: float, key: Array, config: TrainConfig) -> tuple[Array, Array]:
    """Returns which codes are dead, and a random feature for each code."""
    fresh = features[jax.random.randint(key, (len(counts),), 0, len(features))]
    return counts < config.revive_below * mean, fresh


def usage(counts: Float[Array, "k"], choices: int, config: TrainConfig) -> Float[Array, ""]:
    """Returns the part of the codes that are chosen often enough to live; `choices` are those of one step."""
    return jnp.mean(counts > config.revive_below * choices / len(counts))


def perplexity(counts: Float[Array, "k"]) -> Float[Array, ""]:
    """Returns the number of codes in use if all were equally frequent (exp of the entropy)."""
    shares = counts / jnp.maximum(jnp.sum(counts), 1e-9)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
