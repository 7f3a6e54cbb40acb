"""3 x 3 convolution with 16 products where the definition takes 36: Lavin and Gray 2015, arXiv:1509.09308, F(2x2, 3x3).

Its only constants are 0, 1 and 1/2, so it is as exact as the definition; larger tiles are not. For CPUs: the libraries
of accelerators bring their own.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STRIP = 65_536  # channels x tiles that are transformed at once: 16 numbers of each, 4 MiB, stay in a processor's cache
HALF = jnp.float32(0.5)


def convolve_3x3(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "n h w d"]:
    """Convolves with zeros around the image; images are taken one by one, in strips of rows."""
    n, h, w, c = x.shape
    even = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0))) if h % 2 or w % 2 else x
    height, width = even.shape[1:3]
    rows = strip_rows(height, width, c)
    strips, factors = height // rows, transform_kernel(kernel)

    def add_strip(i: Array, y: Float[Array, "n h2 w2 d"]) -> Float[Array, "n h2 w2 d"]:
        image, row = i // strips, i % strips * rows
        tiles = transform_tiles(_with_border(even, image, row, rows))
        products = jax.lax.dot_general(tiles.reshape(16, -1, c), factors, (((2,), (1,)), ((0,), (0,))))
        pixels = transform_back(products.reshape(*tiles.shape[:3], -1))
        return jax.lax.dynamic_update_slice(y, pixels[None], (image, row, 0, 0))

    y: Array = jnp.zeros((n, height, width, kernel.shape[-1]), x.dtype)
    y = jax.lax.fori_loop(0, n * strips, add_strip, y)
    return y[:, :h, :w]


def strip_rows(height: int, width: int, channels: int) -> int:
    """Returns the most rows, an even divisor of the even height, that make no strip over `STRIP`."""
    divisors = [rows for rows in range(2, height + 1, 2) if height % rows == 0]
    return max((rows for rows in divisors if rows // 2 * (width // 2) * channels <= STRIP), default=2)


def _with_border(x: Float[Array, "n h w c"], image: Array, row: Array, rows: int) -> Float[Array, "{rows}+2 w+2 c"]:
    """Cuts rows out of an image, with their neighbours above and below and a column on each side, zero outside."""
    height, width, channels = x.shape[1:]

    def cut(start: Array, count: int) -> Float[Array, "r w c"]:
        return jax.lax.dynamic_slice(x, (image, start, 0, 0), (1, count, width, channels))[0]

    above = jnp.where(row > 0, cut(jnp.maximum(row - 1, 0), 1), 0)
    below = jnp.where(row + rows < height, cut(jnp.minimum(row + rows, height - 1), 1), 0)
    return jnp.pad(jnp.concatenate([above, cut(row, rows), below]), ((0, 0), (1, 1), (0, 0)))


def transform_kernel(kernel: Float[Array, "3 3 c d"]) -> Float[Array, "16 c d"]:
    """Returns G g G^T of the paper's equation 8."""

    def one_axis(a: Array, b: Array, c: Array) -> list[Array]:
        return [a, HALF * (a + b + c), HALF * (a - b + c), c]

    rows = one_axis(*kernel)
    return jnp.stack([factor for row in rows for factor in one_axis(*row)])


def transform_tiles(x: Float[Array, "h w c"]) -> Float[Array, "16 th tw c"]:
    """Returns B^T d B of every 4 x 4 tile at every second row and column."""
    high, wide = x.shape[0] - 3, x.shape[1] - 3

    def one_axis(a: Array, b: Array, c: Array, d: Array) -> list[Array]:
        return [a - c, b + c, c - b, b - d]

    rows = one_axis(*(x[k : k + high : 2] for k in range(4)))
    return jnp.stack([tile for row in rows for tile in one_axis(*(row[:, k : k + wide : 2] for k in range(4)))])


def transform_back(products: Float[Array, "16 th tw d"]) -> Float[Array, "h w d"]:
    """Returns A^T m A of each tile's products: its 2 x 2 pixels."""

    def one_axis(a: Array, b: Array, c: Array, d: Array) -> list[Array]:
        return [a + b + c, b - c - d]

    rows = one_axis(*products.reshape(4, 4, *products.shape[1:]))
    pixels = [jnp.stack(one_axis(*row), axis=2) for row in rows]  # th tw 2 d
    high, wide, channels = products.shape[1:]
    return jnp.stack(pixels, axis=1).reshape(2 * high, 2 * wide, channels)
