"""T5 v1.1's encoder (Raffel et al., 2020), with the parameter names of its published checkpoints.

transformers has the same network. A small one is here because importing that library takes longer than starting Python,
PyTorch and a whole model of ours, and whoever wants a video waits for it.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import TextEncoderConfig
from arlon_cli.models.layers import RMSNorm

_BUCKETS, _FARTHEST = 32, 128  # of relative positions: both directions, half of each for single distances


class T5Encoder(nn.Module):
    """Tokens to features: pre-norm layers of attention with relative positions and of gated GELU, without biases."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.shared = nn.Embedding(config.vocab_size, config.width)
        self.encoder = Stack(config)
        nn.init.normal_(self.shared.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features (B, L, width) of tokens (B, L); those where the mask (B, L) is false are looked at by none."""
        return self.encoder(self.shared(ids), mask)


class Stack(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(config, has_positions=number == 0) for number in range(config.num_layers))
        self.final_layer_norm = RMSNorm(config.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        first = cast(AttentionLayer, self.block[0].get_submodule("layer.0"))
        positions = first.SelfAttention.positions(x.shape[1])
        bias = positions.masked_fill(~mask[:, None, None, :], -math.inf)  # (B, heads, L, L), the same in all layers
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class Block(nn.Module):
    def __init__(self, config: TextEncoderConfig, has_positions: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([AttentionLayer(config, has_positions), FeedForwardLayer(config)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        return feed_forward(attention(x, bias))


class AttentionLayer(nn.Module):
    def __init__(self, config: TextEncoderConfig, has_positions: bool) -> None:
        super().__init__()
        self.SelfAttention = Attention(config.width, config.num_heads, has_positions)
        self.layer_norm = RMSNorm(config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + self.SelfAttention(self.layer_norm(x), bias)


class Attention(nn.Module):
    """Attention whose scores are not scaled; initial weights make up for it."""

    def __init__(self, width: int, num_heads: int, has_positions: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        nn.init.normal_(self.q.weight, std=(width * (width // num_heads)) ** -0.5)
        for linear in (self.k, self.v, self.o):
            nn.init.normal_(linear.weight, std=width**-0.5)
        if has_positions:
            self.relative_attention_bias = nn.Embedding(_BUCKETS, num_heads)
            nn.init.normal_(self.relative_attention_bias.weight, std=width**-0.5)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, L, width); bias (B, heads, L, L) is added to the scores."""
        q, k, v = (part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(attended.transpose(1, 2).flatten(2))

    def positions(self, length: int) -> Tensor:
        """What the scores (1, heads, length, length) get for how far, and on which side, a key is of its query.

        Near distances have a weight each, farther ones share those of a logarithmic scale.
        """
        places = torch.arange(length, device=self.relative_attention_bias.weight.device)
        offset = places - places[:, None]
        distance, half = offset.abs(), _BUCKETS // 2
        exact = half // 2
        share = (distance.clamp(min=1).float() / exact).log() / math.log(_FARTHEST / exact)
        far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
        bucket = torch.where(distance < exact, distance, far) + half * (offset > 0)
        return self.relative_attention_bias(bucket).permute(2, 0, 1)[None]


class FeedForwardLayer(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.DenseReluDense = GatedGELU(config.width, config.ffn_width)
        self.layer_norm = RMSNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x))


class GatedGELU(nn.Module):
    def __init__(self, width: int, ffn_width: int) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(width, ffn_width, bias=False) for _ in range(2))
        self.wo = nn.Linear(ffn_width, width, bias=False)
        for linear in (self.wi_0, self.wi_1, self.wo):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))
