"""The pipeline as the command line asks for it."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arlon_cli.cli.console import Console
    from arlon_cli.config import ModelConfig
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.reference import Reference


def wanted_config(folder: Path, size: str | None, fps: int | None) -> "ModelConfig":
    """What a checkpoint folder says about its model, with frames of another size (as `640x360`) or rate; None its own.

    Raises InputError for a size or a rate that it does not render, CheckpointError for a folder that is no checkpoint.
    """
    from arlon_cli.pipeline.sizes import at_fps, parse_size, sized
    from arlon_cli.storage.weights import read_config

    config = read_config(folder)
    if size is not None:
        config = sized(config, parse_size(size))
    return config if fps is None else at_fps(config, fps)


def open_pipeline(
    folder: Path,
    device: str,
    dtype: str,
    console: "Console | None" = None,
    *,
    config: "ModelConfig | None" = None,
    offload: bool = False,
    compile_parts: bool = False,
) -> "Pipeline":
    """The pipeline of a checkpoint folder and the user's store; a console shows its progress and warnings.

    `config` is the model's with frames of another size or rate, None its own. Raises InputError for a device or a
    dtype that there is not, CheckpointError for a folder that is no checkpoint.
    """
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.store import Store

    if not gc.get_freeze_count():
        gc.freeze()  # torch is there to stay: no collection, nor the end of the process, need look through it again
    place = resolve_device(device)
    pipeline = Pipeline(
        Checkpoint(folder),
        device=place,
        dtype=resolve_dtype(dtype, place),
        store=Store.from_environment(),
        config=config,
        offload=offload,
        compile_parts=compile_parts,
    )
    if console is not None:
        pipeline.on_progress, pipeline.on_warning = console.progress, console.warn
    return pipeline


def read_reference(
    pipeline: "Pipeline", codes: Path | None, image: Path | None, num_frames: int, use_ar: bool
) -> "Reference":
    """What a video of `num_frames` frames starts from where the user gives codes, a picture, or both.

    Of codes that the video goes on behind, the last frame stays only where the clip filled it. Raises InputError.
    """
    import dataclasses

    from arlon_cli.pipeline.reference import NO_REFERENCE
    from arlon_cli.storage.codes import check_codes, read_codes
    from arlon_cli.storage.image import read_image

    config, chunk = pipeline.config, pipeline.config.video_vae.chunk
    reference = NO_REFERENCE
    if image is not None:
        reference = pipeline.reference_of([read_image(image, width=config.width, height=config.height)], use_ar)
    if codes is not None:
        values, record = read_codes(codes)
        check_codes(codes, values, record, pipeline.checkpoint.config, pipeline.checkpoint.digest)
        if num_frames > record.num_frames:
            values = values[: int(record.num_frames / (chunk.frames_per_latent * config.latent_vqvae.ratio[0]))]
        reference = dataclasses.replace(reference, codes=values)
    return reference
