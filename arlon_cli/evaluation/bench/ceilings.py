"""What the machine can do at most: products, convolutions, copies."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from arlon_cli.config import PIXELS_PER_LATENT, OpenSoraVAEConfig, VideoVAEConfig
from arlon_cli.evaluation.bench.timing import REPEATS, time_calls


@dataclass(frozen=True)
class Ceilings:
    """The most that the machine was seen to do, in TFLOP/s, and in GB/s read and written."""

    product_tflops: float
    convolution_tflops: float
    memory_gb_per_second: float

    def bound(self, product_gflops: float, convolution_gflops: float, read_gb: float) -> tuple[str, float]:
        """The ceiling that such work meets first, and the least seconds that it then takes.

        Arithmetic and memory may work at once; products and convolutions follow each other. What is read from a
        cache and not from memory may take less.
        """
        products = product_gflops / 1e3 / self.product_tflops
        convolutions = convolution_gflops / 1e3 / self.convolution_tflops
        memory = read_gb / self.memory_gb_per_second
        if memory > products + convolutions:
            return "memory", memory
        return "matrix product" if products >= convolutions else "convolution", products + convolutions


def measure_ceilings(
    device: torch.device, dtype: torch.dtype, vae: VideoVAEConfig | OpenSoraVAEConfig, height: int, width: int
) -> Ceilings:
    """Measure the machine, with matrices and buffers that are large for it, and a 3-D convolution of the VAE's size.

    `height` and `width` are those of frames, in pixels.
    """
    size, count = (8192, 1 << 28) if device.type != "cpu" else (2048, 1 << 25)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    channels, grid = _widest(vae, height, width)
    x = torch.randn(1, channels, *grid, device=device).to(dtype)
    kernel = torch.randn(channels, channels, 3, 3, 3, device=device).to(dtype)
    source = torch.zeros(count, device=device)
    target = torch.empty_like(source)
    with torch.inference_mode():
        product = _least_seconds(lambda: a @ b, device)
        convolution = _least_seconds(lambda: F.conv3d(x, kernel, padding=1), device)
        copy = _least_seconds(lambda: target.copy_(source), device)
    convolved = 2 * kernel[0].numel() * x.numel()
    return Ceilings(2 * size**3 / product / 1e12, convolved / convolution / 1e12, 2 * source.nbytes / copy / 1e9)


def _widest(vae: VideoVAEConfig | OpenSoraVAEConfig, height: int, width: int) -> tuple[int, tuple[int, int, int]]:
    """Channels and (T, H, W) of the VAE's convolutions over most positions."""
    if isinstance(vae, OpenSoraVAEConfig):
        return vae.temporal.filters, (vae.chunk.num_frames, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    return vae.widths[0], (4 * vae.chunk.num_frames, height // 4, width // 4)


def _least_seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    return time_calls(work, device, REPEATS).least
