"""What a run on users' own videos consists of: its settings, its data, and the frozen parts that it learns from."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from arlon_cli.config import PIXELS_PER_LATENT, ModelConfig, VideoVAEConfig
from arlon_cli.errors import CheckpointError, InputError
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.dataset import Source
from arlon_cli.training.buckets import Buckets, Window
from arlon_cli.training.prepared import Encoding, Piece, Prepared, Size, codes_key, text_key
from arlon_cli.training.processes import Processes
from arlon_cli.training.start import RATE_ON, Part, check_same_run, starting_part
from arlon_cli.training.visibility import visibility

_LEARNS_FROM = {
    "video_vae": (),
    "latent_vqvae": ("video_vae",),
    "latent_vqvae_coarse": ("video_vae",),
    "ar": ("text_encoder", "video_vae", "latent_vqvae"),
    "dit": ("text_encoder", "video_vae", "latent_vqvae", "latent_vqvae_coarse"),
}
_PIXEL_FRAMES, _LATENT_FRAMES = 4 * 17, 16 * 17  # to a piece: whole chunks of either video VAE


@dataclass(frozen=True)
class PartSettings:
    """What a run is, beside its data and its model; a run goes on only as it began.

    A step takes `batch` clips over all processes together, `micro_batch` at a time; `sizes` are (height, width).
    """

    part: str
    num_steps: int
    batch: int
    micro_batch: int
    learning_rate: float
    seed: int
    from_scratch: bool
    sizes: tuple[Size, ...]
    guidance: float | None = None  # that the AR Transformer learns to draft with on its own


def default_steps(part: str, config: ModelConfig) -> int:
    """How many steps a part takes by default."""
    if config.published is not None:
        return {"dit": 20_000, "ar": 50_000}.get(part, 30_000)
    return 10_000


def default_batch(part: str, config: ModelConfig) -> int:
    """How many clips a step takes by default; the paper has 2 of the AR's and the DiT's on a GPU."""
    return 2 if config.published is not None else {"dit": 4}.get(part, 8)


def default_rate(part: str, config: ModelConfig, fresh: bool) -> float:
    """The peak learning rate: the paper's for the DiT at its scale, less than a new part's for one that learns on."""
    if config.published is not None:
        return {"dit": 2e-5, "ar": 1e-4}.get(part, 2e-4)
    rate = {"video_vae": 4e-4, "ar": 1e-3, "dit": 8e-4}.get(part, 5e-4)
    return rate if fresh else RATE_ON * rate


def is_fresh(part: str, checkpoint: Checkpoint, from_scratch: bool) -> bool:
    """Whether a part starts anew: as wished, or since the checkpoint has none."""
    return from_scratch or not checkpoint.has(part)


@dataclass(frozen=True)
class Work:
    """What the recipes of the parts share."""

    checkpoint: Checkpoint
    settings: PartSettings
    sources: Sequence[Source]
    prepared: Prepared
    device: torch.device
    precision: torch.dtype
    processes: Processes
    checkpoint_layers: bool
    on_event: Callable[[str], None]

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    @property
    def fresh(self) -> bool:
        return is_fresh(self.settings.part, self.checkpoint, self.settings.from_scratch)

    @property
    def micro_batches(self) -> int:
        return self.settings.batch // self.settings.micro_batch

    def digest(self, part: str) -> str:
        """Of what a frozen part computes."""
        return f"{self.checkpoint.part_digest(part)} {self.precision}"

    def windows(self, buckets: Buckets, index: int) -> list[Window]:
        """The windows of micro-batch `index`."""
        step, number = divmod(index, self.micro_batches)
        size = self.settings.micro_batch
        return buckets.draw(range(number * size, (number + 1) * size), self.settings.seed, step)

    def buckets(self, pieces: Sequence[Piece], lengths: Sequence[int], unit: int) -> Buckets:
        """Buckets, of which the user hears."""
        buckets = Buckets(pieces, lengths, unit)
        for ((height, width), length), group in sorted(buckets.groups.items()):
            self.on_event(f"{width}x{height}, windows of {length}: {len(group)} pieces")
        if buckets.num_short:
            self.on_event(f"{buckets.num_short} pieces are shorter than {min(lengths)} and stay out")
        return buckets

    def latents(self) -> list[Piece]:
        """The data set as pieces of latents."""
        load = cache(lambda: cast(VideoVAE, self.checkpoint.load("video_vae", self.device, self.precision)))

        def encode(frames: np.ndarray) -> Tensor:
            chunks = torch.from_numpy(frames).split(_PIXEL_FRAMES)
            with torch.inference_mode():
                pixels = (as_pixels(chunk.to(self.device))[None].to(self.precision) for chunk in chunks)
                return torch.cat(list(load().encode_stream(pixels)), dim=2)[0].half().cpu()

        unit = self.config.video_vae.chunk.num_frames
        return self.prepared.pieces(
            self.sources, Encoding("latents", self.digest("video_vae"), unit, _LATENT_FRAMES, axis=1, encode=encode)
        )

    def pixels(self) -> list[Piece]:
        """The data set as pieces of frames."""
        unit = self.config.video_vae.chunk.num_frames
        return self.prepared.pieces(
            self.sources,
            Encoding("pixels", "", unit, _PIXEL_FRAMES, axis=0, encode=lambda frames: torch.from_numpy(frames)),
        )

    def texts(self, pieces: Sequence[Piece]) -> Callable[[Sequence[str]], tuple[Tensor, Tensor]]:
        """Makes the features of all captions, and gives what reads them: text (B, L, C) and text_mask (B, L)."""
        digest = self.digest("text_encoder")
        captions = {piece.caption or "" for piece in pieces} | {""}
        self.prepared.texts(captions, digest, lambda: self.checkpoint.load("text_encoder", self.device, self.precision))
        length, width = self.config.text_encoder.max_tokens, self.config.text_encoder.width

        def read(captions: Sequence[str]) -> tuple[Tensor, Tensor]:
            text = torch.zeros(len(captions), length, width)
            text_mask = torch.zeros(len(captions), length, dtype=torch.bool)
            for row, caption in enumerate(captions):
                features = self.prepared.read("text", text_key(caption, digest))["text"]
                text[row, : len(features)] = features.float()
                text_mask[row, : len(features)] = True
            return text.to(self.device), text_mask.to(self.device)

        return read

    def codes(self, pieces: Sequence[Piece], part: str) -> Callable[[Piece], Tensor]:
        """Makes the codes of all pieces of latents by a latent VQ-VAE, and gives what reads them, (t, h, w) long."""
        digest = self.digest(part)
        self.prepared.codes(pieces, digest, lambda: self.vqvae(part))
        return lambda piece: self.prepared.read("codes", codes_key(piece.key, digest))["codes"].long()

    def vqvae(self, part: str) -> LatentVQVAE:
        return cast(LatentVQVAE, self.checkpoint.load(part, self.device, torch.float32))

    def visible(self) -> Tensor | None:
        """How an error of latents is seen, where it is known: of a VAE of this project, not of a published one."""
        if not isinstance(self.config.video_vae, VideoVAEConfig):
            return None
        return visibility(cast(VideoVAE, self.checkpoint.load("video_vae", self.device, torch.float32)))

    def latent_window(self, window: Window) -> Tensor:
        """The latents (C, T, H, W) of a window."""
        latents = self.prepared.read("latents", window.piece.key)["latents"]
        return latents[:, window.start : window.start + window.length].float()

    def module(self, make: Callable[[], Part]) -> Part:
        """The part to be trained, new or the checkpoint's."""
        torch.manual_seed(self.settings.seed)
        module = starting_part(self.settings.part, None if self.fresh else self.checkpoint, make)
        return module.to(self.device)


def check_settings(settings: PartSettings, checkpoint: Checkpoint, processes: Processes) -> None:
    """Raises InputError for settings that do not fit the model or the processes, CheckpointError for missing parts."""
    config, part = checkpoint.config, settings.part
    if part == "video_vae" and not isinstance(config.video_vae, VideoVAEConfig):
        raise InputError(f"{config.name} has Open-Sora's own video VAE, which stays as it is; train vqvae, ar or dit.")
    for needed in _LEARNS_FROM[part]:
        if needed not in checkpoint.published and not checkpoint.has(needed):
            raise CheckpointError(f"{checkpoint.folder} has no {needed}, from which {part} learns; train that first.")
    checkpoint.check(*(needed for needed in (part, *_LEARNS_FROM[part]) if needed in checkpoint.published))
    if settings.guidance is not None and not checkpoint.has("ar"):
        raise InputError(f"{checkpoint.folder} has no AR model yet, whose guidance could be learnt.")
    if settings.guidance is not None and config.sampling.ar_guidance_scale == 1.0:
        raise InputError(f"{config.name} drafts without guidance already; train its AR model first.")
    if settings.batch % settings.micro_batch:
        raise InputError(f"A batch of {settings.batch} does not divide into micro-batches of {settings.micro_batch}.")
    if settings.batch // settings.micro_batch % processes.count:
        raise InputError(
            f"{settings.batch // settings.micro_batch} micro-batches a step do not divide among "
            f"{processes.count} processes; change --batch or --micro-batch."
        )
    ratio = max(config.latent_vqvae_coarse.ratio[1:]) if part in ("dit", "latent_vqvae_coarse") else 1
    ratio = max(ratio, *config.latent_vqvae.ratio[1:]) if part != "video_vae" else ratio
    unit = PIXELS_PER_LATENT * ratio
    for height, width in settings.sizes:
        if height % unit or width % unit:
            raise InputError(f"The size {width}x{height} is no multiple of {unit}, as {part} needs it.")
        if part == "ar" and (height, width) != (config.height, config.width):
            raise InputError(f"The AR model of {config.name} has codes for {config.width}x{config.height} alone.")


def check_run(file: Path, work: Work, pieces: Sequence[Piece]) -> None:
    """Note in `file` what the run is, or see that it is the one that began in the folder. Raises InputError."""
    part = work.settings.part
    data = json.dumps([dataclasses.astuple(piece) for piece in pieces]).encode()
    run = dataclasses.asdict(work.settings)
    run["model"] = {p: work.checkpoint.part_digest(p) for p in (part, *_LEARNS_FROM[part])}
    run["data"] = hashlib.sha256(data).hexdigest()
    check_same_run(file, run, work.processes)


def as_pixels(frames: Tensor) -> Tensor:
    """Pixels (3, T, H, W) in [-1, 1] of frames (T, H, W, 3) uint8."""
    return frames.permute(3, 0, 1, 2).float() / 127.5 - 1
