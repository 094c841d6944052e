"""How much of a device's memory a render takes, stage by stage: told from shapes, without weights or a device."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arlon_cli.config import DECODED_LATENTS, PIXELS_PER_LATENT, ModelConfig, OpenSoraVAEConfig, PublishedT5Config
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.blank import blank
from arlon_cli.models.latent_vqvae import CONDITION_CONTEXT, LatentVQVAE
from arlon_cli.models.opensora_vae import OpenSoraVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.t5 import T5Encoder
from arlon_cli.models.video_vae import VideoVAE


@dataclass(frozen=True)
class StageMemory:
    """A stage in GB: weights of all parts so far and at the peak, its own alone with `--offload`, and activations."""

    name: str
    weights_gb: float
    offloaded_weights_gb: float
    activations_gb: float

    @property
    def peak_gb(self) -> float:
        return self.weights_gb + self.activations_gb

    @property
    def offloaded_peak_gb(self) -> float:
        return self.offloaded_weights_gb + self.activations_gb


def predict_memory(config: ModelConfig, dtype: torch.dtype, *, use_ar: bool) -> list[StageMemory]:
    """The stages of a render in turn, with the preset's guidance.

    The text encoder is gone before the others come, which stay, or with `--offload` rest, but for the small latent
    VQ-VAE. Kernels' own workspaces and what the allocator wastes come on top.
    """
    size = dtype.itemsize
    with blank():
        vae: nn.Module
        if isinstance(config.video_vae, OpenSoraVAEConfig):
            vae = OpenSoraVAE(config.video_vae)
        else:
            vae = VideoVAE(config.video_vae)
        dit = STDiT3(config.dit, config.injection if use_ar else None)
        ar, vqvae = ARTransformer(config.ar), LatentVQVAE(config.latent_vqvae)
    small = _gigabytes(vqvae, size) if use_ar else 0.0
    stages = [StageMemory("text", text := _text_encoder_gigabytes(config, size), text, 0.0)]
    work: list[tuple[str, nn.Module, Callable[[], object]]] = []
    if use_ar:
        work.append(("draft", ar, lambda: _draft(ar, config)))
        work.append(("condition", vqvae, lambda: _condition(vqvae, config)))
    work.append(("denoise", dit, lambda: _denoise(dit, config, use_ar)))
    work.append(("decode", vae, lambda: _decode(vae, config)))
    resident = _gigabytes(vae, size)  # the first to be loaded
    for name, module, run in work:
        own = _gigabytes(module, size)
        resident += 0.0 if module is vae else own
        offloaded = own + (0.0 if module is vqvae or name == "draft" else small)
        stages.append(StageMemory(name, resident, offloaded, _peak_bytes(module.to(dtype), run) / 1e9))
    return stages


def _text_encoder_gigabytes(config: ModelConfig, itemsize: int) -> float:
    if isinstance(config.text_encoder, PublishedT5Config):
        return config.text_encoder.num_parameters * itemsize / 1e9
    with blank():
        t5 = T5Encoder(config.text_encoder)
    return _gigabytes(t5, itemsize)


def _draft(ar: ARTransformer, config: ModelConfig) -> object:
    """A full window at once, beside the keys and values of one."""
    own, batch = config.ar, 1 if config.sampling.ar_guidance_scale == 1.0 else 2
    positions = own.max_text_tokens + 1 + own.window_frames * (own.code_height * own.code_width + 1)
    cache = torch.empty(2, own.num_layers, batch, positions, own.width, dtype=ar.start.dtype)
    text = torch.empty(batch, own.max_text_tokens, own.text_width, dtype=ar.start.dtype)
    mask = torch.empty(batch, own.max_text_tokens, dtype=torch.bool)
    codes = torch.empty(batch, own.window_frames, own.code_height, own.code_width, dtype=torch.long)
    return cache, ar(text, mask, codes)


def _condition(vqvae: LatentVQVAE, config: ModelConfig) -> object:
    num_codes = CONDITION_CONTEXT + 1 - (-config.segments.num_latents // config.latent_vqvae.ratio[0])
    codes = torch.empty(1, num_codes, config.ar.code_height, config.ar.code_width, dtype=torch.long)
    return vqvae.decode(codes)


def _denoise(dit: STDiT3, config: ModelConfig, use_ar: bool) -> object:
    """One step of a whole segment, whose first latents are given."""
    batch, own = 1 if config.sampling.guidance_scale == 1.0 else 2, config.dit
    kind = next(dit.parameters()).dtype
    length = config.segments.num_latents
    x_t = torch.empty(
        batch,
        own.in_channels,
        length,
        config.height // PIXELS_PER_LATENT,
        config.width // PIXELS_PER_LATENT,
        dtype=kind,
    )
    text = torch.empty(batch, own.model_max_length, own.caption_channels, dtype=kind)
    return dit(
        x_t,
        torch.empty(batch),
        text,
        fps=torch.empty(1),
        height=config.height,
        width=config.width,
        text_mask=torch.empty(batch, own.model_max_length, dtype=torch.bool),
        x_mask=torch.empty(batch, length, dtype=torch.bool),
        condition=torch.empty_like(x_t) if use_ar else None,
    )


def _decode(vae: nn.Module, config: ModelConfig) -> object:
    """A chunk, or as many latents as the pipeline decodes at once."""
    kind = next(vae.parameters()).dtype
    length = max(DECODED_LATENTS, config.video_vae.chunk.num_latents)
    latents = torch.empty(
        1,
        config.video_vae.latent_channels,
        length,
        config.height // PIXELS_PER_LATENT,
        config.width // PIXELS_PER_LATENT,
        dtype=kind,
    )
    assert isinstance(vae, VideoVAE | OpenSoraVAE)
    return vae.decode(latents)


def _gigabytes(module: nn.Module, itemsize: int) -> float:
    return sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers())) * itemsize / 1e9


@torch.no_grad()
def _peak_bytes(module: nn.Module, run: Callable[[], object]) -> int:
    """The most bytes that `run` holds at once besides the module's weights, both on the meta device."""
    module.eval()
    with torch.device("meta"), _Peak(module) as peak, _FusedAttention():
        run()
    return peak.bytes


class _Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive; `bytes` is the most there was."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.bytes = self._alive = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._known:
                storage = tensor.untyped_storage()
                self._known.add(storage._cdata)
                self._alive += storage.nbytes()
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        self.bytes = max(self.bytes, self._alive)
        return result

    def _free(self, address: int, num_bytes: int) -> None:
        self._known.discard(address)
        self._alive -= num_bytes


class _FusedAttention(TorchFunctionMode):
    """Attention as one kernel that keeps no matrix of weights, which the meta device does not have."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))
