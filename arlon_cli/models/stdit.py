"""STDiT3, the spatial-temporal diffusion Transformer of Open-Sora v1.2, with its parameter names (2.2, eq. 2).

Tokens stay in a grid, x (B, T, S, d), with S patches a frame. Spatial blocks attend within a frame, temporal blocks
along time at one place, in turn. With a `SemanticInjection` the codes guide the first layers; without, this is
Open-Sora's own network.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from arlon_cli.config import SemanticInjectionConfig, STDiT3Config
from arlon_cli.models.layers import RMSNorm, attention, gelu, normalize
from arlon_cli.models.linear_estimate import LinearEstimate
from arlon_cli.models.semantic_injection import Guidance, Layer, SemanticInjection

_FREQUENCIES = 256  # of the sinusoidal embedding of timesteps and of frames per second


class STDiT3(nn.Module):
    """Predicts v = x_0 - noise (B, C, T, H, W), or (B, 2C, T, H, W) with `pred_sigma`, of which the first C are v.

    With `checkpoint_layers`, training keeps each layer's input alone and computes the rest again for the gradient.
    """

    def __init__(self, config: STDiT3Config, injection: SemanticInjectionConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_layers = False
        width, heads = config.hidden_size, config.num_heads
        self.x_embedder = PatchEmbedding(config.in_channels, width, config.patch_size)
        self.t_embedder = ScalarEmbedding(width)
        self.fps_embedder = ScalarEmbedding(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = TextEmbedding(config.caption_channels, width, config.model_max_length)
        self.rope = Rotary(width // heads)
        self.spatial_blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.temporal_blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        out_channels = config.in_channels * (2 if config.pred_sigma else 1)
        self.final_layer = FinalLayer(width, math.prod(config.patch_size) * out_channels)
        self._initialize()
        self.injection: SemanticInjection | None = None
        self.linear_estimate: LinearEstimate | None = None
        if injection is not None:
            self.inject(injection)

    def inject(self, injection: SemanticInjectionConfig) -> None:
        """Put new adapters around the layers, in place of any that are there."""
        config = self.config
        self.injection = SemanticInjection(injection, config.hidden_size, config.patch_size, self.layers)
        self.linear_estimate = LinearEstimate(config.in_channels) if injection.linear_estimate else None

    @torch.no_grad()
    def _initialize(self) -> None:
        """Start as the identity around the residual path: what a block adds through text, and the output, are zero."""
        for block in (*self.spatial_blocks, *self.temporal_blocks):
            nn.init.zeros_(block.cross_attn.proj.weight)
            nn.init.zeros_(block.cross_attn.proj.bias)
        nn.init.normal_(self.t_block.get_parameter("1.weight"), std=0.02)
        nn.init.zeros_(self.t_block.get_parameter("1.bias"))
        nn.init.zeros_(self.final_layer.linear.weight)
        nn.init.zeros_(self.final_layer.linear.bias)

    @property
    def layers(self) -> list[Layer]:
        """The spatial and the temporal block of each layer."""
        return list(zip(self.spatial_blocks, self.temporal_blocks, strict=True))

    @property
    def unconditional_text(self) -> Tensor:
        """The learned text (L, C) that stands for no prompt."""
        return self.y_embedder.y_embedding

    def forward(
        self,
        x_t: Tensor,
        timestep: Tensor,
        text: Tensor,
        *,
        fps: Tensor,
        height: float,
        width: float,
        text_mask: Tensor | None = None,
        x_mask: Tensor | None = None,
        condition: Tensor | None = None,
        condition_mask: Tensor | None = None,
    ) -> Tensor:
        """v for noisy latents.

        x_t (B, C, T, H, W); timestep (B,) in [0, 1000]; text (B, L, C); text_mask (B, L), true at real tokens;
        x_mask (B, T), false at frames given as condition, which are clean and see t = 0; fps (B,) or (1,); height and
        width in pixels; condition F (B, C, T, H, W), used by the samples that condition_mask (B,) marks, or by all. H
        and W that the patch does not divide are padded with zeros and cut again.
        """
        frames, rows, columns = x_t.shape[2:]
        x = self.x_embedder(x_t)  # (B, T, h, w, d)
        h, w = x.shape[2:4]
        scale = (height * width) ** 0.5 / self.config.input_sq_size
        x = x + position_embedding(h, w, x.shape[-1], scale, x.device, x.dtype)
        x = x.flatten(2, 3).contiguous()  # channels last in memory too, as all that follows works along them

        speed = self.fps_embedder(fps.expand(len(x)), x.dtype)
        t = self.t_embedder(timestep, x.dtype) + speed  # (B, d)
        modulation, clean = self.t_block(t)[:, None], None  # the same for all frames
        if x_mask is not None:
            clean = self.t_embedder(torch.zeros_like(timestep), x.dtype) + speed
            modulation = torch.where(x_mask[:, :, None], modulation, self.t_block(clean)[:, None])
        modulation = modulation.unflatten(-1, (6, -1)).unsqueeze(2)  # (B, T or 1, 1, 6, d)

        y = self.y_embedder(text.to(x.dtype))
        y_mask = None if text_mask is None else text_mask.bool()[:, None, None, :]  # (B, 1, 1, L)
        guided = None
        if self.injection is not None and condition is not None:
            if condition.shape[2:] != x_t.shape[2:]:
                raise ValueError(f"The condition is {tuple(condition.shape)}, but the latents {tuple(x_t.shape)}.")
            guided = self.injection.prepare(condition.to(x.dtype), condition_mask)
            x = self.injection.enter(x, guided)
        rotation = self.rope(frames, x.dtype)

        def run_layer(layer: Layer, x: Tensor) -> Tensor:
            spatial, temporal = layer
            return temporal(spatial(x, modulation, y, y_mask), modulation, y, y_mask, rotation)

        def run_guided(number: int, x: Tensor, guided: Guidance | None) -> tuple[Tensor, Guidance | None]:
            if self.injection is not None and guided is not None:
                x, guided = self.injection(number, x, guided, run_layer)
            return run_layer(self.layers[number], x), guided

        for number in range(self.config.depth):
            if self.checkpoint_layers and self.training:
                x, guided = checkpoint(run_guided, number, x, guided, use_reentrant=False)
            else:
                x, guided = run_guided(number, x, guided)
        x = self.final_layer(x, t, clean, x_mask)
        p, q, r = self.config.patch_size
        x = rearrange(x, "b t (h w) (p q r c) -> b c (t p) (h q) (w r)", h=h, w=w, p=p, q=q, r=r)
        x = x[:, :, :frames, :rows, :columns]
        if self.linear_estimate is not None:
            estimate, deviation = self.linear_estimate(x_t, timestep, condition, condition_mask)
            x = estimate + deviation * x
        return x


class Block(nn.Module):
    """Self-attention along space or time, cross-attention to the text, MLP; the first and last modulated by t."""

    def __init__(self, config: STDiT3Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.scale_shift_table = nn.Parameter(nn.init.normal_(torch.empty(6, width), std=width**-0.5))
        self.attn = SelfAttention(width, config.num_heads, config.qk_norm)
        self.cross_attn = CrossAttention(width, config.num_heads)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), width)

    def forward(
        self, x: Tensor, modulation: Tensor, y: Tensor, y_mask: Tensor | None, rotation: Tensor | None = None
    ) -> Tensor:
        """x (B, T, S, d); attends along S, or along T with a `rotation`."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (self.scale_shift_table + modulation).unbind(-2)
        x = torch.addcmul(x, gate, self.attn(modulate(x, shift, scale), rotation))
        x = x + self.cross_attn(x.flatten(1, 2), y, y_mask).view_as(x)
        return torch.addcmul(x, mlp_gate, self.mlp(modulate(x, mlp_shift, mlp_scale)))


class SelfAttention(nn.Module):
    def __init__(self, width: int, num_heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = RMSNorm(width // num_heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width // num_heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Attention of x (B, T, S, d) along S, or along T with a `rotation`."""
        lines = "(b t) h s d" if rotation is None else "(b s) h t d"
        q, k, v = rearrange(self.qkv(x), f"b t s (three h d) -> three {lines}", three=3, h=self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.proj(rearrange(attention(q, k, v), f"{lines} -> b t s (h d)", b=len(x)))


class CrossAttention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor | None) -> Tensor:
        """x (B, N, d) looks at the text y (B, L, d) where y_mask (B, 1, 1, L) is true."""
        k, v = rearrange(self.kv_linear(y), "b l (two h d) -> two b h l d", two=2, h=self.num_heads)
        if 2 * self.num_heads * y.shape[1] <= x.shape[-1]:  # half the work, or less
            return self._see_few(x, k, v, y_mask)
        q = rearrange(self.q_linear(x), "b n (h d) -> b h n d", h=self.num_heads)
        return self.proj(rearrange(attention(q, k, v, y_mask), "b h n d -> b n (h d)"))

    def _see_few(self, x: Tensor, k: Tensor, v: Tensor, y_mask: Tensor | None) -> Tensor:
        """The same for few keys k and values v (B, H, L, d/H): both projections of x are taken into them beforehand.

        With q = W x + b, a score qᵀk is xᵀ(Wᵀk) + bᵀk, and what is projected after the sum over values is linear in
        them too: two products with the narrow (d, H·L) stand for two with (d, d) and those of attention.
        """
        heads, d = self.num_heads, x.shape[-1]
        k = k * k.shape[-1] ** -0.5
        keys = k @ self.q_linear.weight.view(heads, -1, d)  # (B, H, L, d)
        offsets = k @ self.q_linear.bias.view(heads, -1, 1)  # (B, H, L, 1)
        if y_mask is not None:
            offsets = offsets.masked_fill(~y_mask.movedim(-1, -2), -torch.inf)
        values = v @ self.proj.weight.t().reshape(heads, -1, d)  # (B, H, L, d)
        scores = torch.baddbmm(offsets.view(len(x), 1, -1), x, keys.flatten(1, 2).mT)  # (B, N, H·L)
        weights = scores.unflatten(-1, (heads, -1)).softmax(dim=-1).flatten(2)
        return torch.baddbmm(self.proj.bias, weights, values.flatten(1, 2))


class Mlp(nn.Module):
    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class FinalLayer(nn.Module):
    def __init__(self, width: int, out_features: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(nn.init.normal_(torch.empty(2, width), std=width**-0.5))
        self.linear = nn.Linear(width, out_features)

    def forward(self, x: Tensor, t: Tensor, clean: Tensor | None, x_mask: Tensor | None) -> Tensor:
        """x (B, T, S, d) modulated by t (B, d), and again by `clean` at condition frames, as Open-Sora was trained."""
        x = modulate(x, *self._shift_scale(t))
        if clean is not None and x_mask is not None:
            x = torch.where(x_mask[:, :, None, None], x, modulate(x, *self._shift_scale(clean)))
        return self.linear(x)

    def _shift_scale(self, t: Tensor) -> tuple[Tensor, ...]:
        return (self.scale_shift_table + t[:, None, None, None, :]).unbind(-2)


class PatchEmbedding(nn.Module):
    """Latents (B, C, T, H, W) to patches (B, t, h, w, d), padded with zeros at the far ends."""

    def __init__(self, in_channels: int, width: int, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        t, h, w = (-size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True))
        return self.proj(F.pad(x, (0, w, 0, h, 0, t))).movedim(1, -1)


class ScalarEmbedding(nn.Module):
    """Numbers (B,) to (B, d): cosines and sines, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        half = torch.arange(_FREQUENCIES // 2, device=values.device, dtype=torch.float32)
        angles = values.float()[:, None] * torch.exp(-math.log(10000.0) * half / len(half))
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype))


class TextEmbedding(nn.Module):
    """Projects text features (B, L, C) to the width, and holds those that stand for no prompt."""

    y_embedding: Tensor

    def __init__(self, in_channels: int, width: int, length: int) -> None:
        super().__init__()
        self.register_buffer("y_embedding", nn.init.normal_(torch.empty(length, in_channels), std=in_channels**-0.5))
        self.y_proj = Mlp(in_channels, width, width)

    def forward(self, text: Tensor) -> Tensor:
        return self.y_proj(text)


class Rotary(nn.Module):
    """Rotary positions along time (Su et al., 2024); the frequencies stand in the checkpoint as a parameter."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        frequencies = [10000.0 ** (-channel / head_width) for channel in range(0, head_width, 2)]
        self.freqs = nn.Parameter(torch.tensor(frequencies), requires_grad=False)

    def forward(self, length: int, dtype: torch.dtype) -> Tensor:
        """Cosines and sines (2, length, head width) of channels' angles; a pair's first has the negative sine."""
        angles = torch.arange(length, device=self.freqs.device)[:, None] * self.freqs.float()
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([torch.stack([cos, cos], dim=-1), torch.stack([-sin, sin], dim=-1)]).flatten(-2).to(dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) · (1 + scale) + shift"""
    return torch.addcmul(shift, normalize(x), 1 + scale)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring pairs of the last axis of x (..., N, d) by the `rotation` (2, N, d) of `Rotary`."""
    cos, sin = rotation
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin)


def position_embedding(h: int, w: int, width: int, scale: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sines and cosines (h, w, d) of the patch's column, then of its row, on a grid stretched to a square.

    Places are counted in patches of a `scale` 1 picture with as many patches, so that sizes and shapes share them.
    """
    base = round((h * w) ** 0.5)
    frequencies = 10000.0 ** -(torch.arange(0, width // 2, 2, device=device, dtype=torch.float32) / (width // 2))

    def waves(count: int) -> Tensor:
        places = torch.arange(count, device=device, dtype=torch.float32) / scale * (base / count)
        angles = places[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    columns, rows = waves(w).expand(h, w, -1), waves(h)[:, None].expand(h, w, -1)
    return torch.cat([columns, rows], dim=-1).to(dtype)
