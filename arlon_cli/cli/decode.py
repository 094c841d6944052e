"""`arlon decode`: codes to a coarse clip."""

from pathlib import Path
from typing import Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import print_line, print_result


def decode(
    codes: Annotated[Path, typer.Argument(help="A .safetensors that `arlon encode` made.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            envvar="ARLON_OUTPUT",
            help="The .mp4 to write, or a folder.  [default: here, CODES-preview.mp4]",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    model: options.Model = "diorama",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what codes alone say: a coarse preview, without rendering."""
    from arlon_cli.cli.engine import open_pipeline
    from arlon_cli.storage.codes import check_codes, read_codes
    from arlon_cli.storage.video import VideoWriter
    from arlon_cli.storage.weights import find_weights

    path = options.output_path(output, f"{codes.stem}-preview.mp4", overwrite)
    values, record = read_codes(codes)
    pipeline = open_pipeline(find_weights(model), device, dtype)
    config = pipeline.config
    check_codes(codes, values, record, config, pipeline.checkpoint.digest)
    if not quiet:
        print_line(f"Decoding {codes}")
    with VideoWriter(
        path, width=config.width, height=config.height, fps=config.fps, comment="", overwrite=overwrite
    ) as writer:
        for frames in pipeline.decode_codes(values, record.num_frames):
            writer.write(frames)
    print_result(path, {"num_frames": writer.num_frames, "fps": config.fps}, as_json)
