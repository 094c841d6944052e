"""Options that several commands share, and the checks that need no model."""

import os
import unicodedata
from pathlib import Path
from typing import Annotated, Any

import typer

from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import RANGES

Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same video.  [default: 0]")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", envvar="ARLON_STEPS", help="Denoising steps per segment.  [default: the model's]"),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        envvar="ARLON_GUIDANCE",
        help="Classifier-free guidance; 1 is none.  [default: the model's]",
    ),
]
Reuse = Annotated[
    float | None,
    typer.Option(
        "--reuse",
        metavar="SHARE",
        help="Repeat the last step's velocity until the latents changed by this share, as 0.1: faster with many "
        "steps, at some cost.  [default: 0, never]",
    ),
]
Codes = Annotated[
    Path | None, typer.Option("--codes", help="Codes of a clip (`arlon encode`) to render instead of a draft.")
]
Image = Annotated[Path | None, typer.Option("--image", help="A picture that the video starts with.")]
NoAR = Annotated[bool, typer.Option("--no-ar", help="Render without drafted codes: segments only overlap.")]
Redo = Annotated[
    list[int] | None,
    typer.Option(
        "--redo",
        metavar="K",
        help="Render segment K with other noise; given twice, with yet another. What follows it in the same scene is "
        "rendered again, since each segment grows out of the one before; codes and earlier segments stay.",
    ),
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Width and height of frames.  [default: the model's]")
]
Fps = Annotated[
    int | None,
    typer.Option(
        "--fps",
        metavar="N",
        help="Frames a second of the video, which the model is told; --seconds counts in it.  [default: the model's]",
    ),
]
Offload = Annotated[
    bool, typer.Option("--offload", help="Move parts of the model that rest to the CPU's memory, for small GPUs.")
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile drafting and the diffusion Transformer (torch.compile): slow to start, then faster."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        envvar="ARLON_OUTPUT",
        help="The .mp4 to write, or a folder.  [default: here, named by prompt or title, and seed]",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Do nothing where the output exists.")]
Preview = Annotated[
    bool, typer.Option("--preview", help="First write a coarse clip straight from the codes, as NAME-preview.mp4.")
]
Sheet = Annotated[bool, typer.Option("--sheet", help="Also write a contact sheet, as NAME.png.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be rendered, and render nothing.")]
Device = Annotated[str, typer.Option("--device", envvar="ARLON_DEVICE", help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option("--dtype", envvar="ARLON_DTYPE", help="auto, float32 or bfloat16.")]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Leave out of the file how it was made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the path.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show every step.")]


def _model_names() -> list[str]:
    from arlon_cli.storage.weights import installed_models

    return [folder.name for folder in installed_models()]


Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="ARLON_MODEL",
        help="A model's name, or the path of a checkpoint.",
        autocompletion=_model_names,
    ),
]

_NAME_BYTES = 120


def check_sampling(
    seed: int | None,
    steps: int | None = None,
    guidance: float | None = None,
    reuse: float | None = None,
    *,
    dashes: str = "--",
) -> None:
    """Raises InputError for a value out of its range; None stands for a default."""
    for name, value in (("seed", seed), ("steps", steps), ("guidance", guidance), ("reuse", reuse)):
        low, high = RANGES[name]
        if value is not None and not low <= value <= high:
            raise InputError(f"{dashes}{name} is {value}; it lies between {low} and {high}.")


def check_modes(no_ar: bool, preview: bool, codes: Path | None = None) -> None:
    """Raises InputError for options that exclude each other."""
    if no_ar and codes is not None:
        raise InputError("--codes gives the codes that --no-ar leaves out; give one of them.")
    if no_ar and preview:
        raise InputError("--preview shows the drafted codes, which --no-ar does without; give one of them.")


def flag_or_file(context: typer.Context, name: str, in_file: Any) -> Any:
    """An option's value: from the command line, else the one in a file, else from environment or configuration."""
    source = context.get_parameter_source(name)
    flag = source is not None and source.name == "COMMANDLINE"
    return context.params[name] if flag or in_file is None else in_file


def default_name(prompt: str, seed: int) -> str:
    """A file name of a prompt and a seed: letters, digits and hyphens, cut by bytes, no underscores."""
    letters = (c if c.isalnum() else " " for c in unicodedata.normalize("NFKC", prompt).lower())
    slug = "-".join("".join(letters).split())
    slug = slug.encode()[:_NAME_BYTES].decode(errors="ignore").strip("-")
    return f"{slug or 'video'}-{seed}.mp4"


def file_name(path: Path) -> str:
    """The name of a file as text for a record, whatever bytes it is of."""
    return os.fsencode(path.name).decode(errors="replace")


def expanded(path: Path) -> Path:
    """A path with `~` filled in. Raises InputError where nobody knows whose home that is."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(f"There is no home folder of {path.parts[0]}.") from error


def is_file(name: str) -> bool:
    """Whether there is a file of that name, which may be any text."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def output_path(
    output: Path | None, name: str, overwrite: bool, skip_existing: bool = False, dry_run: bool = False
) -> Path:
    """Where the result goes: `output`, or `name` in the folder `output` or here. Raises InputError where it cannot.

    A file ends as `name` does. A dry run writes none, and may find one there.
    """
    if overwrite and skip_existing:
        raise InputError("Give either --overwrite or --skip-existing.")
    path = Path(name) if output is None else expanded(output)
    try:
        if path.is_dir():
            path = path / name
        suffix = Path(name).suffix
        if path.suffix.lower() != suffix:
            raise InputError(f"The output {path} is neither a folder nor a name that ends in {suffix}.")
        if not path.parent.is_dir():
            raise InputError(f"There is no folder {path.parent} to write into.")
        if path.is_dir():
            raise InputError(f"{path} is a folder.")
        if path.exists() and not (overwrite or skip_existing or dry_run):
            raise InputError(f"{path} exists already; give --overwrite to replace it, or another name.")
    except OSError as error:  # a name too long
        raise InputError(f"The output {str(path)[:60]}... cannot be a file: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"You may not write into the folder {path.parent}.")
    return path
