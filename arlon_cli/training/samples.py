"""Sample sheets: what each part can do after its training, on scenes that it was not trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.dioramas import FAMILIES, HELD_OUT, SCENE_FRAMES, Scene, caption, render, sample_scene
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.sampling.rectified_flow import RectifiedFlow
from arlon_cli.storage.sheet import write_sheet

_SHOWN = 4  # frames of each clip


@dataclass(frozen=True)
class Samples:
    """Writes PNG sheets into `folder`, a row per family: the world's own frames, and beside them the model's."""

    folder: Path
    config: ModelConfig
    vae: VideoVAE

    @torch.inference_mode()
    def reconstructions(self) -> None:
        """`video_vae.png`: each clip, encoded and decoded."""
        self._compare("video_vae", lambda latents: latents)

    @torch.inference_mode()
    def conditions(self, name: str, vqvae: LatentVQVAE) -> None:
        """`NAME.png`: F of each clip's codes, decoded."""
        self._compare(name, lambda latents: vqvae.decode(vqvae.encode(latents))[:, :, : latents.shape[2]])

    @torch.inference_mode()
    def drafts(self, text_encoder: TextEncoder, ar: ARTransformer, vqvae: LatentVQVAE) -> None:
        """`ar.png`: a held-out caption's clip, and F of the codes that were drafted for the caption."""
        drafted = iter([vqvae.decode(self._draft(row, text_encoder, ar)) for row in range(len(FAMILIES))])
        self._compare("ar", lambda latents: next(drafted)[:, :, : latents.shape[2]])

    @torch.inference_mode()
    def videos(self, text_encoder: TextEncoder, ar: ARTransformer, vqvae: LatentVQVAE, dit: STDiT3) -> None:
        """`dit.png`: a held-out caption's clip, and what all the parts together make of the caption."""
        config, device = self.config, next(dit.parameters()).device
        sampling, flow = config.sampling, RectifiedFlow()
        made = []
        for row in range(len(FAMILIES)):
            condition = vqvae.decode(self._draft(row, text_encoder, ar))[:, :, : config.segments.num_latents]
            text, text_mask = text_encoder.encode([self._caption(row)])
            network = as_network(
                dit, text, text_mask, condition, fps=config.fps, height=config.height, width=config.width
            )
            noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(row)).to(device)
            z = flow.initial(noise, condition, sampling.start_timestep)
            timesteps = flow.timesteps(sampling.num_steps, sampling.start_timestep)
            *_, z = flow.sample(network, z, timesteps, guidance_scale=1.0)
            made.append(z)
        clips = iter(made)
        self._compare("dit", lambda latents: next(clips))

    @cached_property
    def _clips(self) -> list[tuple[Tensor, Tensor]]:
        """Each family's frames (T, 3, H, W) uint8 and latents (1, C, t, h, w)."""
        device = next(self.vae.parameters()).device
        num_frames = VideoVAE.temporal_ratio * self.config.segments.num_latents
        clips = []
        for row in range(len(FAMILIES)):
            pixels = render([self._scene(row)], torch.arange(num_frames), self.config.height, device)[0]
            clips.append((_as_bytes(pixels), self.vae.encode((pixels * 2 - 1).transpose(0, 1)[None])))
        return clips

    def _compare(self, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """Decode what `change` makes of each family's latents, beside the frames that they came from."""
        rows = []
        for frames, latents in self._clips:
            decoded = _as_bytes((self.vae.decode(change(latents))[0].transpose(0, 1).float() + 1) / 2)
            shown = torch.linspace(0, len(frames) - 1, _SHOWN).long()
            rows.append(torch.cat([frames[shown], decoded[shown]]).permute(0, 2, 3, 1).cpu().numpy())
        self.folder.mkdir(parents=True, exist_ok=True)
        write_sheet(rows, self.folder / f"{name}.png")

    def _draft(self, row: int, text_encoder: TextEncoder, ar: ARTransformer) -> Tensor:
        """Codes (1, t, h, w) of one segment for the caption of a row."""
        sampling, ratio = self.config.sampling, self.config.latent_vqvae.ratio[0]
        text, text_mask = text_encoder.encode([self._caption(row), ""])
        frames = draft(
            ar,
            [Span(text[0], text_mask[0], -(-self.config.segments.num_latents // ratio))],
            seed=row,
            temperature=sampling.ar_temperature,
            top_k=sampling.ar_top_k,
            guidance_scale=sampling.ar_guidance_scale,
            null=(text[1], text_mask[1]),
        )
        return torch.stack(list(frames))[None]

    def _scene(self, row: int) -> Scene:
        return sample_scene(HELD_OUT + row, family=FAMILIES[row], num_frames=SCENE_FRAMES)

    def _caption(self, row: int) -> str:
        return caption(self._scene(row), 0, row)


def _as_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as uint8."""
    return (pixels.clamp(0, 1) * 255).round().byte()
