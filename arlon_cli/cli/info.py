"""`arlon info`: what made a file."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arlon_cli.cli import options

if TYPE_CHECKING:
    from arlon_cli.storage.metadata import VideoMetadata


def info(
    file: Annotated[Path, typer.Argument(help="A video, codes, or a checkpoint folder.")],
    as_json: options.AsJson = False,
) -> None:
    """Show what made a video, and the command that makes it again; or what a checkpoint holds."""
    if file.is_dir():
        facts = _checkpoint_facts(file)
    else:
        facts = _codes_facts(file) if file.suffix == ".safetensors" else _video_facts(file)
    if as_json:
        print(json.dumps({"path": str(file)} | facts, ensure_ascii=False))
        return
    for name, value in facts.items():
        print(f"{name.replace('_', ' ')}: {value}")


def remake_command(made: "VideoMetadata", path: Path) -> str | None:
    """The command line that makes a video again; None for one of several shots, or one that goes on from another."""
    if len(made.shots) != 1 or made.extends:
        return None
    [shot] = made.shots
    words = ["arlon", "generate", "--frames", str(shot.num_frames), "--seed", str(made.seed)]
    words += ["--steps", str(made.num_steps), "--guidance", f"{made.guidance_scale:g}", "--dtype", made.dtype]
    words += [] if made.use_ar else ["--no-ar"]
    words += ["--codes", made.codes] if made.codes else []
    words += ["--image", made.image] if made.image else []
    words += ["--model", made.model, "-o", path.name, "--", shot.prompt]
    return shlex.join(words)


def _video_facts(file: Path) -> dict[str, Any]:
    from arlon_cli.storage.metadata import VideoMetadata
    from arlon_cli.storage.video import probe

    found = probe(file)
    facts: dict[str, Any] = {
        "size": f"{found.width}x{found.height}",
        "num_frames": found.num_frames,
        "fps": found.fps,
    }
    made = VideoMetadata.from_json(found.comment)
    if made is None:
        return facts | {"made_by": "unknown: it holds no record of arlon"}
    facts |= {
        "made_by": f"arlon {made.version}",
        "model": f"{made.model} {made.model_digest[:12]}",
        "seed": made.seed,
        "steps": made.num_steps,
        "guidance": made.guidance_scale,
        "codes": made.codes or ("drafted" if made.use_ar else "none"),
        "dtype": made.dtype,
    }
    facts |= {name: value for name, value in (("image", made.image), ("extends", made.extends)) if value}
    for number, shot in enumerate(made.shots, start=1):
        name = "prompt" if len(made.shots) == 1 else f"shot_{number}"
        facts[name] = f"{shot.prompt} ({shot.num_frames} frames{', after a cut' if shot.cut else ''})"
    command = remake_command(made, file)
    return facts | ({"again": command} if command else {})


def _codes_facts(file: Path) -> dict[str, Any]:
    from arlon_cli.storage.codes import read_codes

    codes, record = read_codes(file)
    return {"codes": "x".join(map(str, codes.shape))} | dataclasses.asdict(record)


def _checkpoint_facts(folder: Path) -> dict[str, Any]:
    from arlon_cli.storage.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder)
    return {
        "name": checkpoint.config.name,
        "digest": checkpoint.digest,
        "megabytes": round(checkpoint.num_bytes / 1e6, 1),
        "config": json.dumps(dataclasses.asdict(checkpoint.config)),
    }
