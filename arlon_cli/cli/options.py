"""Options that several commands share, and the checks that need no model."""

import math
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from arlon_cli.errors import InputError

Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same video.  [default: 0]")]
Steps = Annotated[int | None, typer.Option("--steps", help="Denoising steps per segment.  [default: the model's]")]
Guidance = Annotated[
    float | None, typer.Option("--guidance", help="Classifier-free guidance; 1 is none.  [default: the model's]")
]
Codes = Annotated[
    Path | None, typer.Option("--codes", help="Codes of a clip (`arlon encode`) to render instead of a draft.")
]
Image = Annotated[Path | None, typer.Option("--image", help="A picture that the video starts with.")]
NoAR = Annotated[bool, typer.Option("--no-ar", help="Render without drafted codes: segments only overlap.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The .mp4 to write, or a folder.  [default: named by prompt and seed]"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
Model = Annotated[str, typer.Option("--model", help="A model's name, or the path of a checkpoint.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.")]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Leave out of the file how it was made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the path.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show every step.")]

MAX_SEED = 2**63 - 1
_MAX_STEPS = 1000
_MAX_GUIDANCE = 100.0
_NAME_BYTES = 120


def check_sampling(seed: int | None, steps: int | None, guidance: float | None) -> None:
    """Raises InputError for a value out of its range; None stands for a default."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise InputError(f"--seed is {seed}; it lies between 0 and {MAX_SEED}.")
    if steps is not None and not 1 <= steps <= _MAX_STEPS:
        raise InputError(f"--steps is {steps}; it lies between 1 and {_MAX_STEPS}.")
    if guidance is not None and not (math.isfinite(guidance) and 0 <= guidance <= _MAX_GUIDANCE):
        raise InputError(f"--guidance is {guidance}; it lies between 0 and {_MAX_GUIDANCE:g}.")


def default_name(prompt: str, seed: int) -> str:
    """A file name of a prompt and a seed: letters, digits and hyphens, cut by bytes, no underscores."""
    letters = (c if c.isalnum() else " " for c in unicodedata.normalize("NFKC", prompt).lower())
    slug = "-".join("".join(letters).split())
    slug = slug.encode()[:_NAME_BYTES].decode(errors="ignore").strip("-")
    return f"{slug or 'video'}-{seed}.mp4"


def output_path(output: Path | None, name: str, overwrite: bool, suffix: str = ".mp4") -> Path:
    """Where the result goes: `output`, or `name` in the folder `output` or here. Raises InputError where it cannot."""
    path = Path(name) if output is None else output.expanduser()
    if path.is_dir():
        path = path / name
    if path.suffix.lower() != suffix:
        raise InputError(f"The output {path} does not end in {suffix}.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write into.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; give --overwrite to replace it, or another -o.")
    return path
