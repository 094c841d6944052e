"""`arlon encode`: videos to codes."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import print_line, print_result
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from arlon_cli.pipeline.pipeline import Pipeline


def encode(
    videos: Annotated[list[Path], typer.Argument(help="Videos of any format that ffmpeg reads.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            envvar="ARLON_OUTPUT",
            help="The .safetensors to write, or a folder.  [default: here, named by the video]",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    model: options.Model = "diorama",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn videos into codes, for `generate --codes` and `decode`; prints one path a line.

    Frames are resampled to the model's rate, scaled to cover its size, and cut at the centre.
    """
    from arlon_cli.cli.engine import open_pipeline
    from arlon_cli.storage.codes import CodesRecord, write_codes
    from arlon_cli.storage.video import probe
    from arlon_cli.storage.weights import find_weights

    folder = find_weights(model)
    if output is not None and output.suffix != "" and not output.is_dir() and len(videos) > 1:
        raise InputError(f"{len(videos)} videos do not fit into the one file {output}; name a folder.")
    paths = [options.output_path(output, f"{video.stem}.safetensors", overwrite) for video in videos]
    if repeated := [str(path) for path in paths if paths.count(path) > 1]:
        raise InputError(f"Several videos would be written to {repeated[0]}; encode them one by one with -o.")
    for video in videos:
        probe(video)
    pipeline = open_pipeline(folder, device, dtype)
    config = pipeline.config
    for video, path in zip(videos, paths, strict=True):
        if not quiet:
            print_line(f"Encoding {video}")
        codes, num_frames = _encode(pipeline, video)
        record = CodesRecord(
            model=config.name,
            model_digest=pipeline.checkpoint.digest,
            width=config.width,
            height=config.height,
            fps=config.fps,
            num_frames=num_frames,
            source=options.file_name(video),
        )
        write_codes(path, codes, record)
        print_result(path, {"codes": list(codes.shape), "num_frames": num_frames, "fps": config.fps}, as_json)


def _encode(pipeline: "Pipeline", video: Path) -> tuple["Tensor", int]:
    """Codes (t, h, w) of a video and the number of its frames at the model's rate, from the store or made now."""
    import torch

    from arlon_cli.storage.store import artifact_key
    from arlon_cli.storage.video import read_frames

    config = pipeline.config
    with video.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    key = artifact_key(kind="encoded", video=content, model=pipeline.checkpoint.digest, dtype=str(pipeline.dtype))
    stored = pipeline.store.read("codes", key)
    if stored is None:
        codes, num_frames = pipeline.encode_codes(
            read_frames(video, width=config.width, height=config.height, fps=config.fps)
        )
        if num_frames < 2:
            raise InputError(f"{video} has one frame, which is no video; `generate --image` starts from a picture.")
        stored = {"codes": codes.to(torch.int32), "num_frames": torch.tensor(num_frames)}
        pipeline.store.write("codes", key, stored)
    return stored["codes"], int(stored["num_frames"])
