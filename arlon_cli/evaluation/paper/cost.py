"""Table 4: what each stage of one segment costs: parameters, arithmetic, time, memory."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch

from arlon_cli.evaluation.bench.stages import (
    encode_texts,
    measure_condition,
    measure_decode,
    measure_denoise,
    measure_draft,
)
from arlon_cli.evaluation.bench.timing import peak_memory
from arlon_cli.evaluation.paper.studio import Studio
from arlon_cli.evaluation.report import Cell, Section, Table
from arlon_cli.evaluation.results import Finding, Row
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.device import resolve_device
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.storage.checkpoint import Checkpoint

NAME = "table-4"
AR, VQVAE, DIT, BASELINE, VAE = (
    "AR Transformer",
    "latent VQ-VAE",
    "DiT, a step",
    "DiT without codes, a step",
    "video VAE",
)
STAGES = (AR, VQVAE, DIT, BASELINE, VAE)


def rows(studio: Studio) -> Iterator[Row]:
    """A row for each stage."""
    for stage in STAGES:
        about = {"stage": stage, "device": str(studio.device), "threads": torch.get_num_threads()}
        yield studio.row(NAME, about, partial(_alone, studio, stage))


def _alone(studio: Studio, stage: str) -> Finding:
    """Measure a stage in a process of its own, whose memory is the stage's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        prompt = studio.items[0].prompt
        work = pool.submit(stage_cost, studio.checkpoint, stage, prompt, studio.device, studio.dtype)
        return Finding(work.result())


@torch.inference_mode()
def stage_cost(folder: Path, stage: str, prompt: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Parameters, GFLOPs, seconds and peak memory in GB of a stage of one whole segment of a prompt.

    The DiT's are of one step.
    """
    resolve_device(str(device))  # as in rendering: this is a process of its own
    checkpoint = Checkpoint(folder)
    config = checkpoint.config
    texts = encode_texts(cast(TextEncoder, checkpoint.load("text_encoder", device, dtype)), prompt)
    part = {AR: "ar", VQVAE: "latent_vqvae", VAE: "video_vae"}.get(stage, "dit")
    module = checkpoint.load(part, device, dtype)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if stage == AR:
        num_frames = -(-config.segments.num_latents // config.latent_vqvae.ratio[0])
        measured = measure_draft(cast(ARTransformer, module), config, device, num_frames, texts)
    elif stage == VQVAE:
        measured = measure_condition(cast(LatentVQVAE, module), config, device)
    elif stage == VAE:
        measured = measure_decode(cast(VideoVAE, module), config, device)
    else:
        dit = cast(STDiT3, module)
        if stage == BASELINE and dit.injection is not None:
            parameters -= sum(parameter.numel() for parameter in dit.injection.parameters())
        measured = measure_denoise(dit, config, device, with_codes=stage == DIT, texts=texts)
    memory = peak_memory(device)
    return {
        "parameters": parameters,
        "gflops": measured.gflops,
        "seconds": measured.seconds.median,
        "memory_gb": memory,
    }


def section(studio: Studio, found: Sequence[Row]) -> Section:
    """The stages, and a segment with and without codes as their sum."""
    costs = {row.key["stage"]: row.values for row in found}
    table: list[list[Cell]] = [
        [stage, cost["parameters"] / 1e6, cost["gflops"], cost["seconds"], cost["memory_gb"]]
        for stage, cost in costs.items()
    ]
    steps, baseline_steps = (studio.config.sampling.steps(use_ar) for use_ar in (True, False))
    sums = {
        f"a segment with codes, DiT × {steps}": {AR: 1, VQVAE: 1, DIT: steps, VAE: 1},
        f"a segment without codes, DiT × {baseline_steps}": {BASELINE: baseline_steps, VAE: 1},
    }
    for name, times in sums.items():
        totals = [sum(costs[stage][unit] * n for stage, n in times.items()) for unit in ("gflops", "seconds")]
        table.append([name, sum(costs[stage]["parameters"] for stage in times) / 1e6, *totals, None])
    columns = ["stage", "parameters, M", "GFLOPs", "seconds", "peak memory, GB"]
    where = (
        "the device's"
        if studio.device.type == "cuda"
        else "that of a process which does nothing else, PyTorch included"
    )
    note = (
        f"One segment of {studio.config.segments.num_latents} latent frames at "
        f"{studio.config.width}×{studio.config.height} on {studio.device}; memory is {where}."
    )
    return Section("Table 4: cost", note, [Table("Cost of a segment", columns, table)])
