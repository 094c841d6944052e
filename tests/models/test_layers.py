"""Causal convolutions: a few frames alone are as the first of many, and a stream of chunks is as the whole."""

import pytest
import torch

from arlon_cli.models.layers import CausalConv3d, Stream


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
