"""What `arlon evaluate --suite paper` does: the paper's experiments on a model."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from arlon_cli.cli.measure import seams_of
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from arlon_cli.config import SemanticInjectionConfig
    from arlon_cli.evaluation.paper.studio import Studio, Take
    from arlon_cli.evaluation.report import Section, Table
    from arlon_cli.evaluation.videos import Seams
    from arlon_cli.models.attribute_classifier import AttributeClassifier
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.shots import Shot

SHORTEST = 24  # frames of the long videos, of which thirds and halves are taken


def check_suite(
    suite: str, num_prompts: int, num_frames: int, num_training_steps: int, only: Sequence[str]
) -> list[str]:
    """The names of the experiments to run. Raises InputError."""
    from arlon_cli.evaluation.paper.suite import EXPERIMENTS

    if suite != "paper":
        raise InputError(f"There is no suite {suite!r}; the one that there is is called paper.")
    if num_prompts < 2 or num_frames < SHORTEST:
        raise InputError(
            f"--prompts is {num_prompts} and --frames is {num_frames}; a suite takes at least 2 and {SHORTEST}."
        )
    if num_training_steps < 1:
        raise InputError(f"--training-steps is {num_training_steps}; a variant is trained for at least 1.")
    if unknown := [name for name in only if name not in EXPERIMENTS]:
        raise InputError(f"There is no experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}.")
    return [name for name in EXPERIMENTS if name in only or not only]


def open_studio(
    model: str,
    results: Path | None,
    num_prompts: int,
    num_frames: int,
    num_training_steps: int,
    seed: int,
    device: str,
    dtype: str,
    on_event: Callable[[str], None],
) -> "Studio":
    """The model at work, with the rows that are there already. Raises InputError for a model without a classifier."""
    import torch

    from arlon_cli.cli.engine import open_pipeline
    from arlon_cli.cli.train import stoppable
    from arlon_cli.evaluation.motion import optical_flow
    from arlon_cli.evaluation.paper.studio import Studio
    from arlon_cli.evaluation.prompts import held_out
    from arlon_cli.evaluation.results import Results
    from arlon_cli.storage.weights import find_weights
    from arlon_cli.training.variants import train_variant

    if results is not None and results.is_file():
        raise InputError(f"{results} is a file; --results is a folder.")
    optical_flow()  # better missed now than after the work
    folder = find_weights(model)
    pipeline = open_pipeline(folder, device, dtype)
    checkpoint = pipeline.checkpoint
    if not checkpoint.has("classifier"):
        raise InputError(f"{model} has no classifier to tell what its videos show; the suite is for dioramas.")
    where = Path(f"suite-{checkpoint.config.name}-{checkpoint.digest[:8]}") if results is None else results
    opened = lru_cache(1)(lambda place: open_pipeline(place, device, dtype))

    def train(injection: "SemanticInjectionConfig", codes: str) -> Path:
        with stoppable() as stop:
            return train_variant(
                checkpoint,
                where / "variants",
                injection,
                codes,
                num_steps=num_training_steps,
                seed=seed,
                device=pipeline.device,
                precision=pipeline.dtype,
                on_event=on_event,
                stop=stop,
            )

    return Studio(
        checkpoint=folder,
        config=pipeline.config,
        digest=checkpoint.digest,
        device=pipeline.device,
        dtype=pipeline.dtype,
        classifier=cast("AttributeClassifier", checkpoint.load("classifier", pipeline.device, torch.float32)),
        render=lambda take: _render(pipeline if take.model in (None, folder) else opened(take.model), take),
        seams=lambda take: _seams(pipeline, take),
        train=train,
        training_steps=num_training_steps,
        results=Results(where),
        items=held_out(num_prompts),
        num_frames=num_frames,
        seed=seed,
        on_event=on_event,
    )


def run_suite(studio: "Studio", names: Sequence[str]) -> "tuple[dict[str, Any], list[Section]]":
    """The numbers of the experiments, and their sections."""
    from arlon_cli.evaluation.paper.suite import run

    found = dict(run(studio, names))
    numbers = {
        "model": studio.config.name,
        "digest": studio.digest,
        "num_prompts": len(studio.items),
        "num_frames": studio.num_frames,
        "training_steps": studio.training_steps,
        "seed": studio.seed,
        "results": str(studio.results.folder),
        "experiments": {
            name: [row for table in section.tables for row in _as_objects(table)] for name, section in found.items()
        },
    }
    return numbers, list(found.values())


def _as_objects(table: "Table") -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _render(pipeline: "Pipeline", take: "Take") -> "Iterator[np.ndarray]":
    from arlon_cli.evaluation.paper.studio import RESCHEDULED, WITH_CODES
    from arlon_cli.pipeline.reference import NO_REFERENCE, Reference
    from arlon_cli.pipeline.segments import Settings

    settings = Settings(
        take.seed,
        take.num_steps,
        pipeline.config.sampling.guidance_scale,
        use_ar=take.mode == WITH_CODES,
        reschedule_noise=take.mode == RESCHEDULED,
    )
    reference = NO_REFERENCE
    if take.like is not None:
        from arlon_cli.evaluation.clips import real_clips

        (painted,) = real_clips([take.like], take.num_frames, pipeline.config.height, pipeline.device)
        reference = Reference(codes=pipeline.encode_codes(painted)[0])
    return pipeline.frames(_shots(take), settings, reference)


def _seams(pipeline: "Pipeline", take: "Take") -> "Seams":
    return seams_of(_shots(take), pipeline.config)


def _shots(take: "Take") -> "tuple[Shot, ...]":
    from arlon_cli.pipeline.shots import Shot, check_shots

    return check_shots(Shot(prompt, num_frames) for prompt, num_frames in take.shots)
