"""How good the parts of a model are on dioramas that no training saw."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.dioramas import render
from arlon_cli.evaluation.prompts import HeldOut
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.storage.checkpoint import Checkpoint

CLIP_FRAMES = 96  # of a scene's first state
_CHUNK = 8  # clips at once
_PICTURE_STRIDE = 12  # frames between those that the classifier reads

Numbers = dict[str, float]


@torch.inference_mode()
def part_numbers(
    checkpoint: Checkpoint,
    items: Sequence[HeldOut],
    device: torch.device,
    dtype: torch.dtype,
    on_event: Callable[[str], None] = lambda message: None,
) -> dict[str, Numbers]:
    """The numbers of each part of a checkpoint, on at least two held-out scenes."""
    config = checkpoint.config
    numbers: dict[str, Numbers] = {}
    on_event("Measuring the video VAE")
    vae = cast(VideoVAE, checkpoint.load("video_vae", device, dtype))
    coded = [code_clip(vae, held_out_clip(item, CLIP_FRAMES, config.height, device)) for item in items]
    numbers["video_vae"] = {"psnr_db": sum(psnr for _, psnr in coded) / len(coded)}
    latents = torch.cat([clip for clip, _ in coded])
    codes = {}
    for part in ("latent_vqvae", "latent_vqvae_coarse"):
        on_event(f"Measuring the {part.replace('_', ' ')}")
        vqvae = cast(LatentVQVAE, checkpoint.load(part, device, dtype))
        codes[part] = torch.cat([vqvae.encode(clips) for clips in latents.split(_CHUNK)])
        usage, perplexity = codebook_use(codes[part], vqvae.config.codebook_size)
        error = condition_error(vqvae, latents, codes[part])
        numbers[part] = {"usage": usage, "perplexity": perplexity, "relative_error": error}
    on_event("Measuring the AR Transformer")
    text_encoder = cast(TextEncoder, checkpoint.load("text_encoder", device, dtype))
    ar = cast(ARTransformer, checkpoint.load("ar", device, dtype))
    prompts = [item.prompt for item in items]
    told = {"caption": prompts, "no_caption": [""] * len(prompts), "another_caption": [*prompts[1:], prompts[0]]}
    numbers["ar"] = {
        f"nats_per_code_with_{name}": ar_cross_entropy(text_encoder, ar, texts, codes["latent_vqvae"])
        for name, texts in told.items()
    }
    on_event("Measuring the classifier")
    classifier = cast(AttributeClassifier, checkpoint.load("classifier", device, torch.float32))
    numbers["classifier"] = classifier_accuracy(classifier, items, config.height)
    return numbers


def held_out_clip(item: HeldOut, num_frames: int, size: int, device: torch.device) -> Tensor:
    """Pixels (1, 3, T, size, size) in [-1, 1] of the first `num_frames` frames of a scene."""
    frames = torch.arange(num_frames, device=device)
    return render([item.scene], frames, size, device).transpose(1, 2) * 2 - 1


def code_clip(vae: VideoVAE, pixels: Tensor) -> tuple[Tensor, float]:
    """Latents (1, C, T/4, H/8, W/8) of a clip (1, 3, T, H, W), and the PSNR in dB of what becomes of it."""
    latents = vae.encode(pixels.to(vae.shift.dtype))
    decoded = vae.decode(latents).float().clamp(-1, 1)
    return latents, psnr(pixels, decoded)


def psnr(pixels: Tensor, decoded: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [-1, 1]; at most 120."""
    return float(10 * torch.log10(4 / (decoded - pixels).square().mean().clamp_min(4e-12)))


def codebook_use(codes: Tensor, codebook_size: int) -> tuple[float, float]:
    """The share of a codebook that codes of any shape use, and their perplexity: how many equally used codes they are
    worth."""
    share = torch.bincount(codes.flatten(), minlength=codebook_size) / codes.numel()
    return float((share > 0).float().mean()), float(torch.special.entr(share).sum().exp())


def condition_error(vqvae: LatentVQVAE, latents: Tensor, codes: Tensor) -> float:
    """Mean square error of F, decoded from codes (B, t, h, w), relative to the variance of latents (B, C, T, H, W).

    1 is no better than each channel's mean.
    """
    squares = torch.zeros((), device=latents.device)
    for clips, coded in zip(latents.split(_CHUNK), codes.split(_CHUNK), strict=True):
        squares += (vqvae.decode(coded)[:, :, : clips.shape[2]] - clips).float().square().sum()
    variance = latents.float().var(dim=(0, 2, 3, 4), correction=0).mean()
    return float(squares / latents.numel() / variance)


def ar_cross_entropy(text_encoder: TextEncoder, ar: ARTransformer, prompts: list[str], codes: Tensor) -> float:
    """Nats per code of codes (B, T, h, w) after B prompts, within the model's window, without ⟨FRAME⟩ and ⟨EOS⟩."""
    codes = codes[:, : ar.config.window_frames]
    total = torch.zeros((), device=codes.device)
    for first in range(0, len(prompts), _CHUNK):
        some = codes[first : first + _CHUNK]
        logits = ar(*text_encoder.encode(prompts[first : first + _CHUNK]), some).float().flatten(0, 1)
        targets = ar.targets(some).flatten()
        is_code = targets < ar.config.codebook_size
        total += F.cross_entropy(logits[is_code], targets[is_code], reduction="sum")
    return float(total / codes.numel())


def classifier_accuracy(classifier: AttributeClassifier, items: Sequence[HeldOut], size: int) -> Numbers:
    """The share of real frames that the classifier reads right, by attribute and `overall`."""
    device = next(classifier.parameters()).device
    frames = torch.arange(0, CLIP_FRAMES, _PICTURE_STRIDE, device=device)
    right: dict[str, list[float]] = {name: [] for name in classifier.attributes}
    for item in items:
        logits = classifier(render([item.scene], frames, size, device)[0] * 2 - 1)
        for name, values in logits.items():
            read = [classifier.attributes[name][index] for index in values.argmax(1).tolist()]
            right[name].append(read.count(item.attributes[name]) / len(read))
    accuracy = {name: sum(shares) / len(shares) for name, shares in right.items()}
    return accuracy | {"overall": sum(accuracy.values()) / len(accuracy)}
