"""What networks share: norms of the last axis, and layers of the video autoencoders.

The autoencoders' activations are channels-last, (B, T, H, W, C), and nothing looks ahead.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Stream = dict[nn.Module, Tensor]
"""The past that each causal convolution needs to go on with the next chunk; it belongs to whoever iterates."""


_FEW_KEYS = 256


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + 1e-6) · weight over the channels of each position, on CPUs in x's precision always."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=1e-6)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) v of q (..., N, d), k and v (..., M, d); where the mask (..., N, M) is false, nothing is seen.

    Compiled for a CPU, attention to few keys is faster as products, which are fused with what is around them.
    """
    if torch.compiler.is_compiling() and q.device.type == "cpu" and k.shape[-2] <= _FEW_KEYS:
        return attention_by_products(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attention_by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`attention` with all scores (..., N, M) in memory."""
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1) @ v


def gelu(x: Tensor) -> Tensor:
    """GELU by its tanh; compiled for a CPU as x σ(2 …), which is the same, since there e^x is faster than tanh."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return x * torch.sigmoid(x * (1.5957691216057308 + 0.07135481627159979 * x * x))
    return F.gelu(x, approximate="tanh")


def normalize(x: Tensor) -> Tensor:
    """Layer norm over the channels of each position, without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution over (B, T, H, W, C) that sees the present and the past; the first frame stands for its past.

    With a `stream`, the past is that of the chunk before, and the call leaves its own there.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int, int]) -> None:
        time, height, width = kernel_size
        super().__init__(in_channels, out_channels, (time, height, width), padding=(0, height // 2, width // 2))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if stream is None and x.shape[1] < self.kernel_size[0]:
            return self._few(x)
        if (length := self.kernel_size[0] - 1) > 0:
            first = x[:, :1].expand(-1, length, -1, -1, -1)
            x = torch.cat([first if stream is None else stream.get(self, first), x], dim=1)
            if stream is not None:
                stream[self] = x[:, -length:].clone()
        if self.kernel_size[1:] == (1, 1):  # as over (time, place), for which there are faster kernels on CPUs
            y = F.conv2d(x.flatten(2, 3).movedim(-1, 1), self.weight.squeeze(-1), self.bias)
            return y.movedim(1, -1).unflatten(2, x.shape[2:4])
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)

    def _few(self, x: Tensor) -> Tensor:
        """Fewer frames than the kernel sees: what falls on copies of the first is summed beforehand."""
        frames, seen = x.movedim(-1, 2), []  # (B, T, C, H, W)
        for index in range(x.shape[1]):
            past = self.weight[:, :, : self.kernel_size[0] - index].sum(2, keepdim=True)
            kernel = torch.cat([past, self.weight[:, :, self.kernel_size[0] - index :]], dim=2)
            seen.append(
                F.conv2d(
                    frames[:, : index + 1].flatten(1, 2),
                    kernel.transpose(1, 2).flatten(1, 2),
                    self.bias,
                    padding=self.padding[1:],
                )
            )
        return torch.stack(seen, dim=1).movedim(2, -1)


class Downsample(nn.Module):
    """A convolution whose stride is its kernel: each block of `factor` (time, height, width) becomes one position."""

    def __init__(self, in_channels: int, out_channels: int, factor: tuple[int, int, int]) -> None:
        super().__init__()
        self.factor = factor
        time, height, width = factor
        self.linear = nn.Linear(in_channels * time * height * width, out_channels)

    def fold(self, x: Tensor) -> Tensor:
        """(B, rT, pH, qW, C) -> (B, T, H, W, C·r·p·q)"""
        r, p, q = self.factor
        return rearrange(x, "b (t r) (h p) (w q) c -> b t h w (c r p q)", r=r, p=p, q=q)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.fold(x))


class Upsample(nn.Module):
    """The transpose of `Downsample`: each position becomes a block of `factor` (time, height, width)."""

    def __init__(self, in_channels: int, out_channels: int, factor: tuple[int, int, int]) -> None:
        super().__init__()
        self.factor = factor
        time, height, width = factor
        self.linear = nn.Linear(in_channels, out_channels * time * height * width)

    def forward(self, x: Tensor) -> Tensor:
        r, p, q = self.factor
        return rearrange(self.linear(x), "b t h w (c r p q) -> b (t r) (h p) (w q) c", r=r, p=p, q=q)
