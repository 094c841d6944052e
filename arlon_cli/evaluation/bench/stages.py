"""The parts of a model at work, each by itself, as a render has them work."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from arlon_cli.config import DECODED_LATENTS, PIXELS_PER_LATENT, ModelConfig
from arlon_cli.dioramas.render import render
from arlon_cli.dioramas.scene import sample_scene
from arlon_cli.evaluation.bench.ceilings import Ceilings
from arlon_cli.evaluation.bench.timing import REPEATS, Spread, peak_memory, time_calls
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.opensora_vae import OpenSoraVAE
from arlon_cli.models.published_t5 import PublishedT5
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.storage.video import VideoWriter

DRAFTED_FRAMES = 4  # code frames
_WRITTEN_FRAMES, _WRITTEN_AT_ONCE = 96, 16
_UNCOUNTED = {  # what PyTorch's counter lacks
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
}

Text = tuple[Tensor, Tensor]
"""Features (L, C) and their mask (L,)"""
Texts = tuple[Text, Text]
"""Those of a prompt and of the null prompt"""


@dataclass(frozen=True)
class Stage:
    """A part at work: a call makes `count` things, takes `seconds`, does so much arithmetic and reads so much.

    What is read are weights, once a pass over them (the writer's are frames): a lower bound, since activations and
    caches come on top. Peak memory is the device's with this part alone; None on a CPU, where only processes have one.
    """

    name: str
    unit: str
    count: int
    seconds: Spread
    product_gflops: float
    convolution_gflops: float
    read_gb: float
    peak_memory_gb: float | None

    @property
    def gflops(self) -> float:
        return self.product_gflops + self.convolution_gflops

    @property
    def rate(self) -> Spread:
        """In `unit`: things a second, or milliseconds a thing."""
        took = self.seconds
        if self.unit.startswith("ms"):
            return Spread(*(1000 * seconds / self.count for seconds in (took.median, took.least, took.most)))
        return Spread(*(self.count / seconds for seconds in (took.median, took.most, took.least)))

    def beside(self, ceilings: Ceilings) -> tuple[str, float]:
        """The ceiling that bounds the stage, and the share of it that was reached."""
        name, least = ceilings.bound(self.product_gflops, self.convolution_gflops, self.read_gb)
        return name, least / self.seconds.median

    def numbers(self, ceilings: Ceilings) -> dict[str, Any]:
        """All that there is to say about it."""
        name, share = self.beside(ceilings)
        rates = {
            "rate": asdict(self.rate),
            "tflops": self.gflops / self.seconds.median / 1e3,
            "gb_per_second": self.read_gb / self.seconds.median,
        }
        return asdict(self) | rates | {"ceiling": name, "share_of_ceiling": share}


@torch.inference_mode()
def measure_stages(
    load: Callable[[str], nn.Module],
    parts: Sequence[str],
    config: ModelConfig,
    prompt: str,
    device: torch.device,
    repeats: int = REPEATS,
) -> list[Stage]:
    """The `parts` in turn, each gone before the next is loaded, and the writer; codes are drafted for the prompt."""
    stages: list[Stage] = []
    texts = random_texts(config)
    for part in parts:
        stage, texts = _at_work(load(part), texts, config, prompt, device, repeats)
        stages.append(stage)
    return [*stages, measure_writer(config, repeats)]


def _at_work(
    module: nn.Module, texts: Texts, config: ModelConfig, prompt: str, device: torch.device, repeats: int
) -> tuple[Stage, Texts]:
    """A part, and the texts for those after it, which are the text encoder's where it is this one."""
    match module:
        case TextEncoder() | PublishedT5():
            return measure_text(module, prompt, device, repeats), encode_texts(module, prompt)
        case ARTransformer():
            return measure_draft(module, config, device, texts=texts, repeats=repeats), texts
        case LatentVQVAE():
            return measure_condition(module, config, device, repeats), texts
        case STDiT3():
            return measure_denoise(module, config, device, texts=texts, repeats=repeats), texts
        case VideoVAE() | OpenSoraVAE():
            return measure_decode(module, config, device, repeats), texts
    raise TypeError(f"{type(module).__name__} is no part that renders.")


def encode_texts(encoder: TextEncoder | PublishedT5, prompt: str) -> Texts:
    """The prompt's and the null prompt's."""
    features, masks = encoder.encode([prompt, ""])
    return (features[0], masks[0]), (features[1], masks[1])


def random_texts(config: ModelConfig) -> Texts:
    """As `encode_texts`, of no words in particular, which fill half the places."""
    text = torch.randn(config.ar.max_text_tokens, config.ar.text_width, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(config.ar.max_text_tokens) < config.ar.max_text_tokens // 2
    return (text, mask), (torch.zeros_like(text), mask)


def measure_text(
    encoder: TextEncoder | PublishedT5, prompt: str, device: torch.device, repeats: int = REPEATS
) -> Stage:
    """A prompt by itself, as they are encoded."""
    work = lambda: encoder.encode([prompt])
    return _stage("text encoder", "prompts/s", work, device, count=1, read=weight_bytes(encoder), repeats=repeats)


def measure_draft(
    ar: ARTransformer,
    config: ModelConfig,
    device: torch.device,
    num_frames: int = DRAFTED_FRAMES,
    texts: Texts | None = None,
    repeats: int = REPEATS,
) -> Stage:
    """A few code frames with the preset's guidance; how many codes a pass gets right depends on what is drafted."""
    text, null = texts or random_texts(config)

    def work() -> None:
        frames = draft(
            ar,
            [Span(*text, num_frames)],
            seed=0,
            temperature=config.sampling.ar_temperature,
            top_k=config.sampling.ar_top_k,
            guidance_scale=config.sampling.ar_guidance_scale,
            null=null,
        )
        for _ in frames:
            pass

    passes: list[None] = []  # each ends in the last norm; those over the text alone do not, and read less
    with ar.norm.register_forward_hook(lambda *_: passes.append(None)):
        work()
    read = len(passes) * weight_bytes(ar)
    num_codes = num_frames * ar.codes_per_frame
    return _stage("AR Transformer", "codes/s", work, device, count=num_codes, read=read, repeats=repeats)


def measure_condition(vqvae: LatentVQVAE, config: ModelConfig, device: torch.device, repeats: int = REPEATS) -> Stage:
    """F of a whole segment, from its codes."""
    num_frames = -(-config.segments.num_latents // config.latent_vqvae.ratio[0])
    codes = torch.zeros(1, num_frames, config.ar.code_height, config.ar.code_width, dtype=torch.long, device=device)
    work, read = lambda: vqvae.decode(codes), weight_bytes(vqvae)
    return _stage("latent VQ-VAE", "codes/s", work, device, count=codes.numel(), read=read, repeats=repeats)


def measure_denoise(
    dit: STDiT3,
    config: ModelConfig,
    device: torch.device,
    with_codes: bool = True,
    texts: Texts | None = None,
    repeats: int = REPEATS,
) -> Stage:
    """One step of a whole segment, with the preset's guidance."""
    work = step_of(dit, config, device, with_codes, texts)
    return _stage("DiT", "ms/step", work, device, count=1, read=weight_bytes(dit), repeats=repeats)


def step_of(
    dit: STDiT3,
    config: ModelConfig,
    device: torch.device,
    with_codes: bool = True,
    texts: Texts | None = None,
    num_segments: int = 1,
) -> Callable[[], Tensor]:
    """One step of whole segments that go on from others, ready to be called; the same for every network."""
    batch = num_segments * (1 if config.sampling.guidance_scale == 1.0 else 2)
    shape = (
        batch,
        config.dit.in_channels,
        config.segments.num_latents,
        config.height // PIXELS_PER_LATENT,
        config.width // PIXELS_PER_LATENT,
    )
    dtype, noise = next(dit.parameters()).dtype, torch.Generator().manual_seed(0)
    x_t, condition = (torch.randn(shape, generator=noise).to(device, dtype) for _ in range(2))
    (text, mask), _ = texts or random_texts(config)
    network = as_network(
        dit,
        text.to(device, dtype).expand(batch, -1, -1),
        mask.to(device).expand(batch, -1),
        condition if with_codes else None,
        fps=config.fps,
        height=config.height,
        width=config.width,
    )
    x_mask = (torch.arange(shape[2], device=device) >= config.segments.overlap).expand(batch, -1)
    return lambda: network(x_t, torch.full((batch,), 500.0, device=device), x_mask)


def measure_decode(
    vae: VideoVAE | OpenSoraVAE, config: ModelConfig, device: torch.device, repeats: int = REPEATS
) -> Stage:
    """A whole segment, streamed."""
    shape = (
        1,
        config.video_vae.latent_channels,
        config.segments.num_latents,
        config.height // PIXELS_PER_LATENT,
        config.width // PIXELS_PER_LATENT,
    )
    latents = torch.randn(shape, device=device).to(next(vae.parameters()).dtype)
    chunks = latents.split(max(DECODED_LATENTS, config.video_vae.chunk.num_latents), dim=2)

    def work() -> None:
        for _ in vae.decode_stream(chunks):
            pass

    num_frames, read = config.video_vae.chunk.frames(shape[2]), len(chunks) * weight_bytes(vae)
    return _stage("video VAE", "frames/s", work, device, count=num_frames, read=read, repeats=repeats)


def measure_writer(config: ModelConfig, repeats: int = REPEATS) -> Stage:
    """A diorama to a finished mp4, the encoder's start and the look into the file included."""
    side = max(config.width, config.height)
    painted = render([sample_scene(0, num_frames=_WRITTEN_FRAMES)], torch.arange(_WRITTEN_FRAMES), side)[0]
    pixels = (painted[:, :, : config.height, : config.width] * 255).round().to(torch.uint8)
    frames = pixels.permute(0, 2, 3, 1).contiguous().numpy()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            with VideoWriter(path, width=config.width, height=config.height, fps=config.fps, comment="") as writer:
                for start in range(0, len(frames), _WRITTEN_AT_ONCE):
                    writer.write(frames[start : start + _WRITTEN_AT_ONCE])

    cpu = torch.device("cpu")
    return _stage("writer", "frames/s", work, cpu, count=len(frames), read=frames.nbytes, repeats=repeats)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of the weights that a pass reads whole: all but tables, of which it looks up rows."""
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    return sum(parameter.nbytes for parameter in module.parameters() if id(parameter) not in tables)


def _stage(
    name: str,
    unit: str,
    work: Callable[[], object],
    device: torch.device,
    *,
    count: int,
    read: int,
    repeats: int,
) -> Stage:
    """Time `work`, which makes `count` things and reads so many bytes; arithmetic is counted as it warms up.

    What was in use before, as while a part was loaded, is no part of the peak.
    """
    with FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        work()
    counts = counter.get_flop_counts().get("Global", {})
    convolutions = sum(flops for operation, flops in counts.items() if "convolution" in str(operation))
    products = sum(counts.values()) - convolutions
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = time_calls(work, device, repeats)
    peak = peak_memory(device) if device.type == "cuda" else None
    return Stage(name, unit, count, seconds, products / 1e9, convolutions / 1e9, read / 1e9, peak)
