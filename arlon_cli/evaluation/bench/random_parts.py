"""Parts of any configuration with random weights, which are as fast as trained ones and need no download."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

import torch
from torch import nn

from arlon_cli.config import PIXELS_PER_LATENT, ModelConfig, OpenSoraVAEConfig, PublishedT5Config
from arlon_cli.errors import InputError
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.opensora_vae import OpenSoraVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.models.video_vae import VideoVAE

_STD = 0.02


def at_size(config: ModelConfig, size: tuple[int, int]) -> ModelConfig:
    """A model of frames of a size (width, height), at which nothing has to be trained; its code frames fit them.

    Raises InputError for a size that is none of whole codes.
    """
    width, height = size
    _, down, across = (PIXELS_PER_LATENT * factor for factor in config.latent_vqvae.ratio)
    if width % across or height % down:
        raise InputError(
            f"{width}x{height} is no size of whole codes: {config.name} has one for each {across}x{down} pixels."
        )
    codes = replace(config.ar, code_height=height // down, code_width=width // across)
    return replace(config, width=width, height=height, ar=codes)


def buildable_parts(config: ModelConfig) -> tuple[Sequence[str], Sequence[str]]:
    """The parts that can be built here, in the order of a render, and for each other one why it cannot."""
    parts, missing = ["text_encoder", "ar", "latent_vqvae", "dit", "video_vae"], []
    if isinstance(config.text_encoder, PublishedT5Config):
        parts.remove("text_encoder")
        missing.append("The text encoder is left out: it is a published one, which would have to be fetched.")
    if isinstance(config.video_vae, OpenSoraVAEConfig) and find_spec("diffusers") is None:
        parts.remove("video_vae")
        missing.append("The video VAE is left out: it needs diffusers, `pip install 'arlon[opensora]'`.")
    return parts, missing


def random_part(part: str, config: ModelConfig, prompt: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A part for inference, the same at each call; a text encoder knows the prompt's words alone.

    None of the weights is left at zero, as many are where training starts.
    """
    with torch.device(device):
        module = _build(part, config, prompt)
    draws = torch.Generator(device).manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=_STD, generator=draws)
    return module.to(dtype).eval().requires_grad_(False)


def _build(part: str, config: ModelConfig, prompt: str) -> nn.Module:
    match part:
        case "text_encoder":
            assert not isinstance(config.text_encoder, PublishedT5Config)
            return TextEncoder(config.text_encoder, build_tokenizer([prompt], config.text_encoder))
        case "ar":
            return ARTransformer(config.ar)
        case "latent_vqvae":
            return LatentVQVAE(config.latent_vqvae)
        case "dit":
            return STDiT3(config.dit, config.injection)
        case "video_vae" if isinstance(config.video_vae, OpenSoraVAEConfig):
            return OpenSoraVAE(config.video_vae)
        case "video_vae":
            assert not isinstance(config.video_vae, OpenSoraVAEConfig)
            return VideoVAE(config.video_vae)
    raise ValueError(f"{part} is no part that renders.")
