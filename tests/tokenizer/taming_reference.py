"""A small VQGAN in torch with the module names of taming-transformers, written from the paper's description.

It is the oracle for networks with attention: `state_dict` is what its `.ckpt` files hold below `state_dict`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = norm(after), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        y = self.conv2(nn.functional.silu(self.norm2(y)))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """softmax(q k / sqrt(width)) v over all positions, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("ncq,nck->nqk", q, k) * x.shape[1] ** -0.5, dim=-1)
        return x + self.proj_out(torch.einsum("nqk,nck->ncq", weights, v).reshape(x.shape))


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def level(before: int, after: int, blocks: int, attend: bool) -> nn.Module:
    module = nn.Module()
    module.block = nn.ModuleList([Residual(before if i == 0 else after, after) for i in range(blocks)])
    module.attn = nn.ModuleList([Attention(after) for _ in range(blocks if attend else 0)])
    return module


def run_level(module: nn.Module, x: Tensor) -> Tensor:
    for i, block in enumerate(module.block):
        x = block(x)
        if len(module.attn):
            x = module.attn[i](x)
    return x


def middle(width: int, attend: bool) -> nn.Module:
    module = nn.Module()
    module.block_1, module.block_2 = Residual(width, width), Residual(width, width)
    if attend:
        module.attn_1 = Attention(width)
    return module


def run_middle(module: nn.Module, x: Tensor) -> Tensor:
    x = module.block_1(x)
    return module.block_2(module.attn_1(x) if hasattr(module, "attn_1") else x)


class Encoder(nn.Module):
    def __init__(self, widths: Sequence[int], stem: int, blocks: int, attended: set[int], mid: bool, z: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, stem, 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            self.down.append(level(widths[i - 1] if i else stem, width, blocks, i in attended))
            if i < len(widths) - 1:
                self.down[i].downsample = Down(width)
        self.mid = middle(widths[-1], mid)
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], z, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for module in self.down:
            x = run_level(module, x)
            x = module.downsample(x) if hasattr(module, "downsample") else x
        return self.conv_out(nn.functional.silu(self.norm_out(run_middle(self.mid, x))))


class Decoder(nn.Module):
    """Levels are numbered as in the encoder, the finest first, and run from the last."""

    def __init__(self, widths: Sequence[int], blocks: int, attended: set[int], mid: bool, z: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(z, widths[-1], 3, padding=1)
        self.mid = middle(widths[-1], mid)
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            self.up.append(level(widths[min(i + 1, len(widths) - 1)], width, blocks + 1, i in attended))
            if i:
                self.up[i].upsample = Up(width)
        self.norm_out, self.conv_out = norm(widths[0]), nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = run_middle(self.mid, self.conv_in(z))
        for module in reversed(self.up):
            x = run_level(module, x)
            x = module.upsample(x) if hasattr(module, "upsample") else x
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


class Reference(nn.Module):
    """Images (n, 3, h, w) in the network's own range to codes, and back."""

    def __init__(
        self,
        *,
        stem: int,
        mults: Sequence[int],
        blocks: int,
        attended: set[int],
        mid: bool,
        z: int,
        codes: int,
        dim: int,
    ) -> None:
        super().__init__()
        widths = [stem * mult for mult in mults]
        self.encoder = Encoder(widths, stem, blocks, attended, mid, z)
        self.quant_conv = nn.Conv2d(z, dim, 1)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(codes, dim)
        self.post_quant_conv = nn.Conv2d(dim, z, 1)
        self.decoder = Decoder(widths, blocks, attended, mid, z)

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(images)).permute(0, 2, 3, 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        latents = self.latents(images)
        distances = torch.cdist(latents.flatten(0, 2).double(), self.quantize.embedding.weight.double())
        return distances.argmin(-1).reshape(len(images), -1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        side = round(codes.shape[1] ** 0.5)
        latents = self.quantize.embedding(codes).reshape(len(codes), side, side, -1).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(latents))
