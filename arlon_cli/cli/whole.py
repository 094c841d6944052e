"""Whole videos for `arlon bench`, each in a process of its own, as `arlon generate` makes them."""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arlon_cli.evaluation.bench.whole import Whole


def render_whole(model: Path, prompt: str, num_frames: int, device: str, dtype: str) -> "Whole":
    """Time a video in a new process, whose start, imports and memory count."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_render, model, prompt, num_frames, device, dtype, time.time()).result()


def _render(model: Path, prompt: str, num_frames: int, device: str, dtype: str, started: float) -> "Whole":
    from dataclasses import replace

    from arlon_cli.cli.engine import open_pipeline
    from arlon_cli.evaluation.bench.whole import measure_whole
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.pipeline.shots import Shot

    pipeline = open_pipeline(model, device, dtype)
    sampling = pipeline.config.sampling
    settings = Settings(0, sampling.num_steps, sampling.guidance_scale, use_ar=True)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.store = replace(pipeline.store, folder=Path(folder) / "store")  # without what earlier runs have left
        pipeline.check(use_ar=True)
        pipeline.encode_prompts([prompt])
        for part in ("ar", "latent_vqvae", "dit", "video_vae"):
            pipeline.parts.use(part)
        video = Path(folder) / "video" / "video.mp4"
        video.parent.mkdir()
        frames = pipeline.frames([Shot(prompt, num_frames)], settings)
        return measure_whole(frames, video, pipeline.config, pipeline.device, started)
