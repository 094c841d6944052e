"""How fast the parts of a model are, beside what the machine can do at most."""

import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from arlon_cli.config import ModelConfig
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.opensora_vae import OpenSoraVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.storage.checkpoint import Checkpoint

_REPEATS = 5
_DRAFTED_FRAMES = 4  # code frames
_DECODED_LATENTS = 4  # as the pipeline decodes
_UNCOUNTED = {  # what PyTorch's counter lacks
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
}


@dataclass(frozen=True)
class Ceilings:
    """The most that the machine was seen to do: matrix products in TFLOP/s, copies in GB/s read and written."""

    matmul_tflops: float
    memory_gb_per_second: float


@dataclass(frozen=True)
class Stage:
    """One part at work: `rate` in `unit`, arithmetic in TFLOP/s, and the weights that it reads in GB/s.

    Weights read are a lower bound of the memory's traffic: activations and caches come on top. `seconds` and `gflops`
    are those of all that was measured.
    """

    name: str
    rate: float
    unit: str
    tflops: float
    weights_gb_per_second: float
    seconds: float
    gflops: float


@dataclass(frozen=True)
class EndToEnd:
    """A whole video, loading included; peak memory is the device's, or on a CPU the process's, None where unknown."""

    num_frames: int
    frames_per_second: float
    seconds_to_first_frame: float
    peak_memory_gb: float | None


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure the machine, with matrices and buffers that are large for it."""
    large = device.type != "cpu"
    size, count = (8192, 1 << 28) if large else (2048, 1 << 25)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(count, device=device)
    target = torch.empty_like(source)
    product = _seconds(lambda: a @ b, device)
    copy = _seconds(lambda: target.copy_(source), device)
    return Ceilings(2 * size**3 / product / 1e12, 2 * source.nbytes / copy / 1e9)


def measure_end_to_end(render: Callable[[], Iterable[np.ndarray]], device: torch.device) -> EndToEnd:
    """Time chunks of frames (n, H, W, 3) as they come. Do this first: peak memory is that of the process's life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    num_frames, first = 0, 0.0
    for frames in render():
        first = first or time.perf_counter() - start
        num_frames += len(frames)
    return EndToEnd(num_frames, num_frames / (time.perf_counter() - start), first, peak_memory(device))


def peak_memory(device: torch.device) -> float | None:
    """The most memory in use so far, in GB: of the device, or on a CPU of this process; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")  # Linux; `resource` tells there what the parent had in use as well
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(peak[1]) * 1024 / 1e9
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@torch.inference_mode()
def measure_stages(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> list[Stage]:
    """Measure drafting, denoising and decoding by themselves, as a render does them."""
    return [
        measure_draft(cast(ARTransformer, checkpoint.load("ar", device, dtype)), checkpoint.config, device),
        measure_denoise(cast(STDiT3, checkpoint.load("dit", device, dtype)), checkpoint.config, device),
        measure_decode(
            cast(VideoVAE | OpenSoraVAE, checkpoint.load("video_vae", device, dtype)), checkpoint.config, device
        ),
    ]


def measure_draft(
    ar: ARTransformer, config: ModelConfig, device: torch.device, num_frames: int = _DRAFTED_FRAMES
) -> Stage:
    """A few code frames with the preset's guidance; how many codes a pass gets right depends on what is drafted."""
    text = torch.randn(config.ar.max_text_tokens, config.ar.text_width)
    mask = torch.arange(config.ar.max_text_tokens) < config.ar.max_text_tokens // 2

    def work() -> None:
        frames = draft(
            ar,
            [Span(text, mask, num_frames)],
            seed=0,
            temperature=config.sampling.ar_temperature,
            top_k=config.sampling.ar_top_k,
            guidance_scale=config.sampling.ar_guidance_scale,
            null=(torch.zeros_like(text), mask),
        )
        for _ in frames:
            pass

    passes: list[None] = []  # each ends in the last norm; those over the text alone do not, and read less
    with ar.norm.register_forward_hook(lambda *_: passes.append(None)):
        work()
    num_codes = num_frames * ar.codes_per_frame
    return _stage("AR Transformer", "codes/s", ar, work, device, per_call=num_codes, passes=len(passes))


def measure_denoise(dit: STDiT3, config: ModelConfig, device: torch.device, with_codes: bool = True) -> Stage:
    """One step of a whole segment, with the preset's guidance."""
    batch = 1 if config.sampling.guidance_scale == 1.0 else 2
    shape = (batch, config.dit.in_channels, config.segments.num_latents, config.height // 8, config.width // 8)
    weight = next(dit.parameters())
    x_t, condition = (torch.randn(shape, device=device).to(weight.dtype) for _ in range(2))
    text = torch.randn(batch, config.dit.model_max_length, config.dit.caption_channels, device=device).to(weight.dtype)
    timestep, fps, height, width = (
        torch.full((batch,), float(value), device=device) for value in (500, config.fps, config.height, config.width)
    )

    def work() -> Tensor:
        codes = condition if with_codes else None
        return dit(x_t, timestep, text, fps=fps, height=height, width=width, condition=codes)

    return _stage("DiT", "ms/step", dit, work, device, per_call=1, passes=1)


def measure_decode(vae: VideoVAE | OpenSoraVAE, config: ModelConfig, device: torch.device) -> Stage:
    """A whole segment, streamed."""
    shape = (1, config.video_vae.latent_channels, config.segments.num_latents, config.height // 8, config.width // 8)
    latents = torch.randn(shape, device=device).to(next(vae.parameters()).dtype)
    chunks = latents.split(_DECODED_LATENTS, dim=2)

    def work() -> None:
        for _ in vae.decode_stream(chunks):
            pass

    num_frames = config.video_vae.chunk.frames(shape[2])
    return _stage("video VAE", "frames/s", vae, work, device, per_call=num_frames, passes=len(chunks))


def measure_condition(vqvae: LatentVQVAE, config: ModelConfig, device: torch.device) -> Stage:
    """F of a whole segment, from its codes."""
    num_frames = -(-config.segments.num_latents // config.latent_vqvae.ratio[0])
    codes = torch.zeros(1, num_frames, config.ar.code_height, config.ar.code_width, dtype=torch.long, device=device)
    work = lambda: vqvae.decode(codes)
    return _stage("latent VQ-VAE", "codes/s", vqvae, work, device, per_call=codes.numel(), passes=1)


def _stage(
    name: str,
    unit: str,
    module: nn.Module,
    work: Callable[[], object],
    device: torch.device,
    *,
    per_call: int,
    passes: int,
) -> Stage:
    """Time `work`, which gives `per_call` things in `passes` passes over the module's weights."""
    with FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        work()
    seconds = _seconds(work, device)
    rate = 1000 * seconds / per_call if unit.startswith("ms") else per_call / seconds
    weights = sum(parameter.nbytes for parameter in module.parameters())
    flops = counter.get_total_flops()
    return Stage(name, rate, unit, flops / seconds / 1e12, passes * weights / seconds / 1e9, seconds, flops / 1e9)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median time of a call, after one that does not count."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(1 + _REPEATS):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
