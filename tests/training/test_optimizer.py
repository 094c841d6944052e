"""Muon steps along orthogonal matrices, as far as Adam would, and leaves vectors to AdamW."""

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.training.optimizer import Muon, Optimizer, orthogonalized


@pytest.mark.parametrize("shape", [(24, 24), (8, 60), (60, 8)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = torch.linalg.svdvals(orthogonalized(matrix))
    assert found.min() > 0.5 and found.max() < 1.3
    # the directions stay: U Vᵀ has the matrix's own singular vectors
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert ((u @ v) * orthogonalized(matrix)).sum() > 0.95 * (u @ v).norm() * orthogonalized(matrix).norm()


def test_zeros_stay_zeros() -> None:
    assert not orthogonalized(torch.zeros(4, 6)).any()


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (12, 4, 3, 3)])
def test_a_step_is_as_large_as_one_of_adam(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = 1e-4 * torch.randn(shape, generator=generator)
    Muon([parameter], lr=0.01).step()
    assert parameter.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_a_kernel_is_a_matrix_of_what_it_sees() -> None:
    gradient = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    kernel, matrix = nn.Parameter(torch.ones(6, 4, 3, 3)), nn.Parameter(torch.ones(6, 36))
    kernel.grad, matrix.grad = gradient, gradient.flatten(1)
    for parameter in (kernel, matrix):
        Muon([parameter], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(kernel.flatten(1), matrix)


def module_and_batch() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return nn.Linear(5, 3), torch.randn(7, 5)


@pytest.mark.parametrize("matrix_rate", [None, 0.02])
def test_vectors_take_the_steps_of_adamw_and_matrices_where_nothing_else_is_said(matrix_rate: float | None) -> None:
    ours, batch = module_and_batch()
    theirs, _ = module_and_batch()
    rates = {"betas": (0.8, 0.9), "weight_decay": 0.1}
    optimizer = Optimizer(ours.parameters(), learning_rate=0.1, matrix_rate=matrix_rate, **rates)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.05, **rates)  # type: ignore[arg-type]
    for module, step in ((ours, lambda: optimizer.step(0.5)), (theirs, adamw.step)):
        module(batch).square().sum().backward()
        step()
    assert torch.equal(ours.bias, theirs.bias)
    assert torch.equal(ours.weight, theirs.weight) == (matrix_rate is None)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in ours.parameters())
