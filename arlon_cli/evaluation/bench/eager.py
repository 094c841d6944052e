"""The DiT as it is written by hand: attention step by step, and a projection each for queries, keys and values."""

from copy import deepcopy

from einops import rearrange
from torch import Tensor, nn

from arlon_cli.models.layers import attention_by_products
from arlon_cli.models.stdit import CrossAttention, SelfAttention, STDiT3, rotate


def eager_copy(dit: STDiT3) -> STDiT3:
    """The same network with the same weights, whose attention is eager."""
    copy = deepcopy(dit)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if isinstance(child, SelfAttention):
                setattr(module, name, EagerSelfAttention(child))
            elif isinstance(child, CrossAttention):
                setattr(module, name, EagerCrossAttention(child))
    return copy


class EagerSelfAttention(nn.Module):
    def __init__(self, fused: SelfAttention) -> None:
        super().__init__()
        self.num_heads = fused.num_heads
        self.q, self.k, self.v = _split(fused.qkv, 3)
        self.q_norm, self.k_norm, self.proj = fused.q_norm, fused.k_norm, fused.proj

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Attention of x (B, T, S, d) along S, or along T with a `rotation`."""
        lines = "(b t) h s d" if rotation is None else "(b s) h t d"
        q, k, v = (
            rearrange(linear(x), f"b t s (h d) -> {lines}", h=self.num_heads) for linear in (self.q, self.k, self.v)
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.proj(rearrange(attention_by_products(q, k, v), f"{lines} -> b t s (h d)", b=len(x)))


class EagerCrossAttention(nn.Module):
    def __init__(self, fused: CrossAttention) -> None:
        super().__init__()
        self.num_heads = fused.num_heads
        self.q, self.proj = fused.q_linear, fused.proj
        self.k, self.v = _split(fused.kv_linear, 2)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor | None) -> Tensor:
        """x (B, N, d) looks at the text y (B, L, d) where y_mask (B, 1, 1, L) is true."""
        q, k, v = (
            rearrange(linear(tokens), "b n (h d) -> b h n d", h=self.num_heads)
            for linear, tokens in ((self.q, x), (self.k, y), (self.v, y))
        )
        return self.proj(rearrange(attention_by_products(q, k, v, y_mask), "b h n d -> b n (h d)"))


def _split(linear: nn.Linear, count: int) -> list[nn.Linear]:
    """The `count` projections that a fused one does at once."""
    parts = []
    for weight, bias in zip(linear.weight.chunk(count), linear.bias.chunk(count), strict=True):
        part = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        part.weight, part.bias = (
            nn.Parameter(tensor.detach().clone(), requires_grad=False) for tensor in (weight, bias)
        )
        parts.append(part)
    return parts
