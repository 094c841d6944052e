"""Training one part of a model on users' own videos, from its weights or anew, into a new checkpoint."""

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from arlon_cli.config import PIXELS_PER_LATENT, SamplingConfig, VideoVAEConfig
from arlon_cli.errors import InputError
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.sampling.rectified_flow import RectifiedFlow
from arlon_cli.storage.checkpoint import ADAPTERS, Checkpoint, replace_part
from arlon_cli.storage.dataset import find_sources
from arlon_cli.storage.store import Store
from arlon_cli.training import ar, dit, vae, vqvae
from arlon_cli.training.buckets import Window, halvings
from arlon_cli.training.loop import Interrupted, LoopSettings, Loss, train
from arlon_cli.training.prepared import Piece, Prepared
from arlon_cli.training.processes import Processes
from arlon_cli.training.start import check_target, folder_of_run
from arlon_cli.training.work import PartSettings, Work, as_pixels, check_run, check_settings

_CAPTIONED = ("ar", "dit")
_BUILT_ON = {
    "video_vae": "latent_vqvae, latent_vqvae_coarse, ar and dit",
    "latent_vqvae": "ar and dit",
    "latent_vqvae_coarse": "dit",
}
_VAE_FRAMES, _VAE_SIDE = 16, 64  # of what the video VAE is shown
_STATISTICS_BATCHES = 32


@dataclass(frozen=True)
class Plan:
    """How a part learns: `batch_at` and `loss` as the loop takes them, `loop` more of its arguments.

    `finish` is called once the module has its final weights.
    """

    module: nn.Module
    batch_at: Callable[[int], Any]
    loss: Loss
    weight_decay: float
    matrix_rate: float | None = None
    loop: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[], None] = lambda: None


def train_part(
    data: Path,
    folder: Path,
    checkpoint: Checkpoint,
    settings: PartSettings,
    *,
    store: Store,
    device: torch.device,
    precision: torch.dtype,
    processes: Processes,
    checkpoint_layers: bool,
    on_event: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train a part on a data set and leave in `folder`/checkpoint the model with it, whose path is returned.

    What frozen parts make of the data is kept in `store`. A run that was stopped or killed goes on from `folder`.
    Raises Interrupted after `stop()` turned true and the state was saved, InputError for data that cannot be used or
    settings that do not fit the model or the run in `folder`.
    """
    target = folder / "checkpoint"
    check_target(target, checkpoint)
    check_settings(settings, checkpoint, processes)
    if folder.resolve() == (data if data.is_dir() else data.parent).resolve():
        raise InputError(f"{folder} is where the data is; name another folder for the run.")
    sources = find_sources(data)
    report = on_event if processes.rank == 0 else lambda message: None
    work = Work(
        checkpoint=checkpoint,
        settings=settings,
        sources=sources,
        prepared=Prepared(store, checkpoint.config.fps, settings.sizes, processes, on_event, stop),
        device=device,
        precision=precision,
        processes=processes,
        checkpoint_layers=checkpoint_layers,
        on_event=report,
    )
    if work.fresh and not settings.from_scratch:
        learns = "injection" if settings.part in checkpoint.published else settings.part
        report(f"{learns} starts anew: {checkpoint.folder} has none.")
    with folder_of_run(folder, processes):
        _train_on(work, data, folder, stop)
        processes.wait()
    if settings.part in _BUILT_ON:
        report(f"{_BUILT_ON[settings.part]} of this model were made for the {settings.part} before; train them next.")
    return target


def _train_on(work: Work, data: Path, folder: Path, stop: Callable[[], bool]) -> None:
    """Train the part on pieces of the data, and leave the checkpoint in the folder."""
    settings, report, processes = work.settings, work.on_event, work.processes
    pieces = work.pixels() if settings.part == "video_vae" else work.latents()
    if settings.part in _CAPTIONED:
        without = sum(not piece.caption for piece in pieces)
        if without == len(pieces):
            raise InputError(
                f"{data} has no captions; {settings.part} needs one for each video, in a table or in the shards."
            )
        if without:
            report(f"{without} of {len(pieces)} pieces have no caption, and are learnt under none")
    check_run(folder / "run.json", work, pieces)
    plan = _PLANS[settings.part](work, pieces)
    trained = train(
        plan.module,
        plan.batch_at,
        plan.loss,
        LoopSettings.usual(
            settings.learning_rate, plan.weight_decay, settings.num_steps, settings.seed, matrix_rate=plan.matrix_rate
        ),
        num_steps=settings.num_steps,
        folder=folder,
        precision=work.precision,
        on_step=lambda step, metrics: _report(report, step, settings.num_steps, metrics),
        stop=stop,
        processes=processes,
        micro_batches=work.micro_batches,
        **plan.loop,
    )
    if trained is None:
        raise Interrupted
    plan.module.load_state_dict(trained.weights)
    plan.finish()
    if processes.rank == 0:
        weights, sampling = plan.module.state_dict(), _sampling(work)
        replace_part(folder / "checkpoint", work.checkpoint, settings.part, weights, torch.bfloat16, sampling=sampling)


def _report(on_event: Callable[[str], None], step: int, of: int, metrics: dict[str, float]) -> None:
    if step % 100 == 0 or step in (1, of):
        on_event(f"{step}/{of}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}")


def _plan_vae(work: Work, pieces: Sequence[Piece]) -> Plan:
    """Squares of users' frames, as the diorama's VAE learns them: one that learns on is held where others know it."""
    config = work.config.video_vae
    assert isinstance(config, VideoVAEConfig)
    model = work.module(lambda: VideoVAE(config))
    buckets = work.buckets(pieces, halvings(_VAE_FRAMES, VideoVAE.temporal_ratio), unit=1)

    def batch_at(index: int) -> Tensor:
        draw = random.Random(f"{work.settings.seed} crop {index}")
        crops = []
        for window in work.windows(buckets, index):
            frames = work.prepared.read("pixels", window.piece.key)["pixels"]
            side = min(_VAE_SIDE, *window.piece.size)
            y, x = (draw.randrange(size - side + 1) for size in window.piece.size)
            crops.append(frames[window.start : window.start + window.length, y : y + side, x : x + side])
        return torch.stack([as_pixels(crop.to(work.device)) for crop in crops])

    def finish() -> None:
        if work.fresh:  # one that learns on keeps its own, which other parts know
            beyond = work.settings.num_steps * work.micro_batches
            batches = (batch_at(beyond + i) for i in range(_STATISTICS_BATCHES))
            model.set_statistics(*vae.latent_statistics(model, batches))

    if work.fresh:
        model.init_from_patches(_alike(batch_at(index) for index in range(_STATISTICS_BATCHES)))
    held = None if work.fresh else deepcopy(model).eval().requires_grad_(False)
    return Plan(
        model,
        batch_at,
        lambda pixels: vae.vae_loss(model, pixels, vae.DIORAMA_VAE, held=held),
        weight_decay=0.0,
        matrix_rate=vae.MATRIX_RATE * work.settings.learning_rate,
        finish=finish,
    )


def _plan_vqvae(work: Work, pieces: Sequence[Piece]) -> Plan:
    """Latents to codes and back (2.1)."""
    settings, part = work.settings, work.settings.part
    config = work.config.latent_vqvae if part == "latent_vqvae" else work.config.latent_vqvae_coarse
    model = work.module(lambda: LatentVQVAE(config))
    ratio = config.ratio[0]
    longest = -(-work.config.segments.num_latents // ratio) * ratio
    lengths = [ratio * length for length in halvings(longest // ratio, 1)]
    buckets = work.buckets(pieces, lengths, unit=ratio)

    def batch_at(index: int) -> Tensor:
        return torch.stack([work.latent_window(window) for window in work.windows(buckets, index)]).to(work.device)

    training = vqvae.VQVAETraining(
        model,
        dataclasses.replace(vqvae.DIORAMA_VQVAE, num_latents=longest, autoencoder_steps=settings.num_steps // 4),
        batch_at,
        work.processes,
        work.visible(),
    )
    if not work.fresh:
        positions = (
            size // (PIXELS_PER_LATENT * r) for size, r in zip(settings.sizes[0], config.ratio[1:], strict=True)
        )
        training.codebook.adopt(settings.batch * (longest // ratio) * next(positions) * next(positions))
    loop = {
        "after_step": training.after_step,
        "extra": training.codebook.state_dict,
        "load_extra": training.codebook.load_state_dict,
    }
    return Plan(model, batch_at, training.loss, weight_decay=0.0, loop=loop)


def _plan_ar(work: Work, pieces: Sequence[Piece]) -> Plan:
    """Codes from the features of captions (2.1), or as the model drafts with guidance; the text encoder stays."""
    read_text, read_codes = work.texts(pieces), work.codes(pieces, "latent_vqvae")
    model = work.module(lambda: ARTransformer(work.config.ar))
    model.checkpoint_layers = work.checkpoint_layers
    guidance = work.settings.guidance
    settings = ar.TRAINING if guidance is None else ar.DISTILLING
    teacher = model if guidance is None else deepcopy(model).eval().requires_grad_(False)
    ratio = work.config.latent_vqvae.ratio[0]
    coded = [dataclasses.replace(piece, length=piece.length // ratio) for piece in pieces]
    buckets = work.buckets(coded, halvings(work.config.ar.window_frames, 1), unit=1)

    def batch_at(index: int) -> tuple[list[str], Tensor, Tensor]:
        draw = random.Random(f"{work.settings.seed} anchors {index}")
        captions, codes, given = [], [], []
        for window in work.windows(buckets, index):
            earliest = 0 if work.config.ar.anchor_frame else window.start
            places, num_given = ar.window_places(window.start, window.length, earliest, draw)
            captions.append(window.piece.caption or "")
            codes.append(read_codes(window.piece)[places])
            given.append(num_given)
        return captions, torch.stack(codes).to(work.device), torch.tensor(given, device=work.device)

    def loss(batch: tuple[list[str], Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        captions, codes, given = batch
        captions = ar.drop(captions, settings.text_dropout)
        if guidance is not None:
            return ar.guidance_loss(teacher, model, *read_text(ar.with_null(captions)), codes, guidance, settings)
        text, text_mask = read_text(captions)
        return ar.code_loss(model, text, text_mask, codes, settings, given)

    return Plan(model, batch_at, loss, weight_decay=0.02)


def _sampling(work: Work) -> SamplingConfig:
    """How a model with the new part samples: a newly trained AR Transformer wants guidance, until it learns its own."""
    sampling = work.config.sampling
    if work.settings.part != "ar":
        return sampling
    if work.settings.guidance is not None:
        return dataclasses.replace(sampling, ar_guidance_scale=1.0)
    if sampling.ar_guidance_scale != 1.0:
        return sampling
    work.on_event(f"Drafts take guidance {ar.GUIDANCE:g} now; `train ar --guidance {ar.GUIDANCE:g}` spares it again.")
    return dataclasses.replace(sampling, ar_guidance_scale=ar.GUIDANCE)


def _plan_dit(work: Work, pieces: Sequence[Piece]) -> Plan:
    """Latents from noise, text and the condition of codes (2.2, 2.3).

    The backbone that others published is frozen, and only what injects the codes learns, from the coarser codes alone
    as in the paper. Other models learn on as they were trained, from batches of either codes.
    """
    read_text = work.texts(pieces)
    parts = ["latent_vqvae_coarse"] if work.config.published is not None else ["latent_vqvae", "latent_vqvae_coarse"]
    drafts = [(work.vqvae(part), work.codes(pieces, part)) for part in parts]
    model = _dit_module(work)
    model.checkpoint_layers = work.checkpoint_layers
    segments = work.config.segments
    buckets = work.buckets(
        pieces, halvings(segments.num_latents, segments.overlap + 1), unit=work.config.video_vae.chunk.num_latents
    )

    def batch_at(index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        windows = work.windows(buckets, index)
        text, text_mask = read_text([window.piece.caption or "" for window in windows])
        latents = torch.stack([work.latent_window(window) for window in windows]).to(work.device)
        coder, read_codes = random.Random(f"{work.settings.seed} codes {index}").choice(drafts)
        conditions = [_condition(coder, read_codes(window.piece).to(work.device), window) for window in windows]
        return latents, text, text_mask, torch.cat(conditions)

    def loss(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        latents, text, text_mask, condition = batch
        return dit.loss(model, latents, text, text_mask, condition, _dit_settings(work, latents))

    if work.fresh and model.linear_estimate is not None:
        latents, _, _, conditions = zip(*map(batch_at, range(_STATISTICS_BATCHES)), strict=True)
        model.linear_estimate.set_statistics(_alike(latents), _alike(conditions))
    return Plan(model, batch_at, loss, weight_decay=0.01 if work.config.published is None else 0.0)


def _dit_module(work: Work) -> STDiT3:
    """The DiT, whole or as adapters around a published backbone, which is kept in the precision that it runs in."""
    config = work.config
    if config.published is None:
        return work.module(lambda: STDiT3(config.dit, config.injection))
    model = cast(STDiT3, work.checkpoint.load("dit", "cpu", work.precision))
    torch.manual_seed(work.settings.seed)
    if work.fresh or model.injection is None:
        model.inject(config.injection)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(ADAPTERS))
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.to(work.device)


def _alike(batches: Iterable[Tensor]) -> Tensor:
    """Those batches that have the first one's shape, as one."""
    first, *others = batches
    return torch.cat([first, *(batch for batch in others if batch.shape == first.shape)])


def _dit_settings(work: Work, latents: Tensor) -> dit.DiTTrainingConfig:
    """How the DiT learns on latents (B, C, T, H, W): as the dioramas' does, around a published backbone as that did."""
    config = work.config
    shift, start = 1.0, dit.DIORAMA_DIT.start_timestep if config.published is None else config.sampling.start_timestep
    if config.sampling.timestep_transform:
        num_frames = config.video_vae.chunk.frames(latents.shape[2])
        height, width = (PIXELS_PER_LATENT * side for side in latents.shape[3:])
        shift = RectifiedFlow.for_video(height, width, num_frames).shift
    return dataclasses.replace(
        dit.DIORAMA_DIT,
        logit_normal=config.sampling.timestep_transform,
        shift=shift,
        start_timestep=start,
        overlap=config.segments.overlap,
        fps=config.fps,
    )


@torch.no_grad()
def _condition(model: LatentVQVAE, codes: Tensor, window: Window) -> Tensor:
    """F (1, C, T, H, W) of a window of latents, from the codes (t, h, w) of its piece."""
    return model.decode_between(codes[None], window.start, window.start + window.length).float()


_PLANS: dict[str, Callable[[Work, Sequence[Piece]], Plan]] = {
    "video_vae": _plan_vae,
    "latent_vqvae": _plan_vqvae,
    "latent_vqvae_coarse": _plan_vqvae,
    "ar": _plan_ar,
    "dit": _plan_dit,
}
