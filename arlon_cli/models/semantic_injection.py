"""Semantic injection: the draft's condition F guides the first layers of the DiT (2.2, eq. 4 and 5; 2.3, eq. 7)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import SemanticInjectionConfig
from arlon_cli.models.layers import gelu, normalize

Layer = tuple[nn.Module, nn.Module]
"""A spatial and a temporal block of the DiT"""
RunLayer = Callable[[Layer, Tensor], Tensor]
"""Runs a layer on tokens (B, T, S, d), with the timestep and the text of this pass"""


@dataclass(frozen=True, eq=False)
class Guidance:
    """F_i as tokens (B, T, S, d), and which samples it guides (B, 1, 1, 1), or all of them.

    `control` (B, T, S, d) are ControlNet's tokens, once its first layer has run.
    """

    features: Tensor
    mask: Tensor | None
    control: Tensor | None = None


class SemanticInjection(nn.Module):
    """F → patches F_0; F_{i+1} = Adapter_i(LN(F_i)) + F_i (eq. 4), fused with the DiT's layer i.

    Every path into the backbone starts at zero, so an untrained injection changes nothing, bit for bit. Raises
    ValueError for a `fusion` or `condition_noise` that the configuration does not know.
    """

    def __init__(
        self, config: SemanticInjectionConfig, width: int, patch_size: tuple[int, int, int], layers: Sequence[Layer]
    ) -> None:
        """`layers` are the backbone's, of which ControlNet takes copies."""
        super().__init__()
        self.config, self.patch_size = config, patch_size
        self.patch_embedding = nn.Conv3d(config.condition_channels, width, patch_size, stride=patch_size)
        self.adapters = nn.ModuleDict({str(layer): Adapter(width) for layer in config.layers})
        if config.fusion not in ("adaptive_norm", "mlp_adapter", "controlnet"):
            raise ValueError(f"fusion is {config.fusion!r}, not adaptive_norm, mlp_adapter or controlnet.")
        if config.condition_noise not in ("uncertainty", "gaussian", "none"):
            raise ValueError(f"condition_noise is {config.condition_noise!r}, not uncertainty, gaussian or none.")
        self.fusions = nn.ModuleDict()
        for layer in config.layers:
            if config.fusion == "controlnet":
                self.fusions[str(layer)] = ControlLayer(width, layers[layer])
            else:
                self.fusions[str(layer)] = (AdaptiveNorm if config.fusion == "adaptive_norm" else MlpAdapter)(width)
        self.to_input = nn.Linear(width, width) if config.add_to_input else None
        if self.to_input is not None:
            nn.init.zeros_(self.to_input.weight)
            nn.init.zeros_(self.to_input.bias)

    def prepare(self, condition: Tensor, mask: Tensor | None) -> Guidance:
        """F_0 of a condition (B, C, T, H, W); mask (B,) is true for the samples that are guided."""
        t, h, w = (-size % patch for size, patch in zip(condition.shape[2:], self.patch_size, strict=True))
        features = self.patch_embedding(F.pad(condition, (0, w, 0, h, 0, t)))
        tokens = features.flatten(3).permute(0, 2, 3, 1).contiguous()
        return Guidance(tokens, None if mask is None else mask.to(features.dtype).view(-1, 1, 1, 1))

    def enter(self, x: Tensor, guidance: Guidance) -> Tensor:
        """x (B, T, S, d) with F_0 added to the DiT's input, where the configuration asks for it."""
        return x if self.to_input is None else x + _masked(self.to_input(guidance.features), guidance.mask)

    def forward(self, layer: int, x: Tensor, guidance: Guidance, run_layer: RunLayer) -> tuple[Tensor, Guidance]:
        """Fuse layer number `layer`'s input x (B, T, S, d) with F; gives it back with the next F."""
        if str(layer) not in self.fusions:
            return x, guidance
        features, fusion = self.adapters[str(layer)](guidance.features), self.fusions[str(layer)]
        guidance = replace(guidance, features=features)
        if isinstance(fusion, ControlLayer):
            control = x if guidance.control is None else guidance.control
            update, control = fusion(control, self._noisy(features), run_layer)
            guidance = replace(guidance, control=control)
        else:
            update = fusion(x, self._noisy(features))
        return x + _masked(update, guidance.mask), guidance

    def _noisy(self, features: Tensor) -> Tensor:
        """In training, now and then, F as the AR model might have it."""
        if not self.training or torch.rand(()).item() >= self.config.noise_probability:
            return features
        if self.config.condition_noise == "uncertainty":
            return uncertainty_sampling(features)
        if self.config.condition_noise == "gaussian":
            return features + torch.randn_like(features)
        return features


class Adapter(nn.Module):
    """A residual MLP of half the width (eq. 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width // 2)
        self.fc2 = nn.Linear(width // 2, width)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.fc2(gelu(self.fc1(normalize(features))))


class AdaptiveNorm(nn.Module):
    """What eq. 5 adds to X: α ⊙ MLP(γ ⊙ LN(X) + β), with α, β, γ from F; α starts at zero and γ at one.

    The paper does not say what its MLP is: here a SiLU and one linear layer, which gives its number of parameters.
    α, β and γ are read from LN(F), as the adapters of eq. 4 read F.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parameters_of = nn.Linear(width, 3 * width)
        self.mlp = nn.Linear(width, width)
        nn.init.zeros_(self.parameters_of.weight[:width])
        nn.init.zeros_(self.parameters_of.bias[: 2 * width])
        nn.init.ones_(self.parameters_of.bias[2 * width :])

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        alpha, beta, gamma = self.parameters_of(normalize(features)).chunk(3, dim=-1)
        return alpha * self.mlp(F.silu(gamma * normalize(x) + beta))


class MlpAdapter(nn.Module):
    """Table 3's MLP adapter: an MLP of F is added to X; its last layer starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(normalize(features))))


class ControlLayer(nn.Module):
    """A layer of Table 3's ControlNet (Zhang et al., 2023): a trainable copy of the backbone's layer.

    Control starts as the backbone's X; F enters it, and it enters X, through layers that start at zero.
    """

    def __init__(self, width: int, layer: Layer) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(width, width), nn.Linear(width, width)
        for linear in (self.input, self.output):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.spatial, self.temporal = deepcopy(layer)

    def forward(self, control: Tensor, features: Tensor, run_layer: RunLayer) -> tuple[Tensor, Tensor]:
        """What is added to X, and the control (B, T, S, d) of the next layer."""
        control = run_layer((self.spatial, self.temporal), control + self.input(normalize(features)))
        return self.output(control), control


def uncertainty_sampling(features: Tensor) -> Tensor:
    """σ̂ ⊙ (F - μ)/σ + μ̂ with σ̂ ~ N(1, σ) and μ̂ ~ N(μ, σ), per sample and channel of F (B, T, S, d) (eq. 7)."""
    sigma, mu = torch.std_mean(features, dim=(1, 2), keepdim=True, correction=0)
    whitened = (features - mu) / (sigma + 1e-6)
    return (1 + sigma * torch.randn_like(sigma)) * whitened + mu + sigma * torch.randn_like(mu)


def _masked(update: Tensor, mask: Tensor | None) -> Tensor:
    return update if mask is None else update * mask
