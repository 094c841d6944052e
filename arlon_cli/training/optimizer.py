"""The optimizer of the training loop: AdamW, and Muon for matrices where a recipe wants it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)  # singular values come to between 0.7 and 1.2 (Jordan et al., 2024)
_ITERATIONS = 5
_ADAM_RMS = 0.2  # of a usual step of Adam, in units of the learning rate (Liu et al., 2025)


class Optimizer:
    """AdamW for all parameters; with a `matrix_rate`, Muon for those of two dimensions and more.

    Rates are peaks, of which `step` takes a share.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        matrix_rate: float | None,
    ) -> None:
        given = list(parameters)
        matrices = [p for p in given if p.dim() >= 2] if matrix_rate is not None else []
        others = [p for p in given if p.dim() < 2 or not matrices]
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=weight_decay))
        if matrix_rate is not None and matrices:
            self._parts.append(Muon(matrices, lr=matrix_rate, weight_decay=weight_decay))
        self._groups = [(group, group["lr"]) for part in self._parts for group in part.param_groups]
        self._of = {p: part for part in self._parts for group in part.param_groups for p in group["params"]}

    def step(self, share: float) -> None:
        """Move all parameters by their gradients, at this share of the peak rates."""
        for group, peak in self._groups:
            group["lr"] = share * peak
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What is remembered of a parameter, to be read and filled in."""
        return self._of[parameter].state[parameter]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al., 2024), at the size of Adam's steps, so that rates are Adam's.

    A kernel (out, in, ...) counts as a matrix (out, in · ...). PyTorch's own takes matrices alone.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])  # as Nesterov has it
                step = orthogonalized(ahead.flatten(1))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.view_as(parameter), alpha=-group["lr"] * _ADAM_RMS * max(step.shape) ** 0.5)


def orthogonalized(matrix: Tensor) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ (rows, columns), by iterations of Newton and Schulz; zeros stay zeros."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
