"""Causal convolutions: few frames are as the first of many, a stream of chunks as the whole. Attention and GELU."""

import pytest
import torch
from torch.nn import functional as F

from arlon_cli.models.layers import CausalConv3d, Stream, attention, gelu


@torch.no_grad()
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (4, 3, 1)])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_few_frames_are_as_the_first_of_many(kernel: tuple[int, int, int], length: int) -> None:
    torch.manual_seed(0)
    convolution, x = CausalConv3d(5, 4, kernel), torch.randn(2, 8, 6, 7, 5)
    torch.testing.assert_close(convolution(x[:, :length]), convolution(x)[:, :length])


@torch.no_grad()
def test_a_stream_of_chunks_is_as_the_whole() -> None:
    torch.manual_seed(0)
    convolution, x = CausalConv3d(5, 4, (3, 3, 3)), torch.randn(2, 8, 6, 7, 5)
    stream: Stream = {}
    chunks = [convolution(chunk, stream) for chunk in x.split((1, 2, 4, 1), dim=1)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), convolution(x))


@pytest.mark.parametrize("compiling", [False, True])
def test_attention_and_gelu_are_the_same_however_they_are_computed(
    compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = torch.randn(3, 2, 4, 7, 8)
    mask = torch.rand(2, 1, 7, 7) < 0.5
    mask |= torch.eye(7, dtype=torch.bool)
    x = torch.linspace(-9, 9, 1001)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    for seen in (None, mask):
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        torch.testing.assert_close(attention(q, k, v, seen), expected)
    torch.testing.assert_close(gelu(x), F.gelu(x, approximate="tanh"))
