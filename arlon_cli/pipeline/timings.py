"""How long segments took on this machine, so that a plan can say how long it will take."""

from contextlib import suppress

import torch

from arlon_cli.errors import ArlonError
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.segments import Settings
from arlon_cli.storage.store import artifact_key


def remember_speed(pipeline: Pipeline, settings: Settings, seconds: float) -> None:
    """Note how long a segment took here with such settings; where that cannot be written, nothing is lost."""
    with suppress(ArlonError):
        pipeline.store.write("timings", _key(pipeline, settings), {"seconds": torch.tensor([seconds])})


def remembered_speed(pipeline: Pipeline, settings: Settings) -> float | None:
    """The seconds that a segment took here, with such settings, the last time; None where there was none."""
    noted = pipeline.store.read("timings", _key(pipeline, settings))
    return None if noted is None else float(noted["seconds"])


def _key(pipeline: Pipeline, settings: Settings) -> str:
    return artifact_key(
        model=pipeline.checkpoint.digest,
        device=str(pipeline.device),
        dtype=str(pipeline.dtype),
        size=[pipeline.config.width, pipeline.config.height],
        steps=settings.num_steps,
        guided=settings.guidance_scale != 1.0,
        ar=settings.use_ar,
        reuse=settings.reuse,
    )
