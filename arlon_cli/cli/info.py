"""`arlon info`: what made a file."""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from arlon_cli.pipeline.shots import is_text
from arlon_cli.storage.metadata import ShotRecord, VideoMetadata


def info(
    file: Annotated[Path, typer.Argument(help="A video, codes, or a checkpoint folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
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
        print(_printable(f"{name.replace('_', ' ')}: {value}"))


def _printable(text: str) -> str:
    """Text of a file that anybody may have made, without what a terminal would obey."""
    return "".join(letter if is_text(letter) and letter != "\r" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def remake_command(made: VideoMetadata, path: Path) -> str | None:
    """The command line that makes a video again; None for one that goes on from the end of a file.

    A storyboard comes on standard input; frames that were added to a finished video are added again.
    """
    if made.extends:
        return None
    if made.preview:  # which comes beside the video
        path = path.with_name(path.name.replace("-preview.mp4", ".mp4"))
    extensions: list[str] = []
    while len(made.shots) > 1 and made.shots[-1].added:
        *before, last = made.shots
        earlier = path.with_name(f"{path.stem}-before.mp4")
        extend = ["arlon", "extend", "--frames", str(last.num_frames), "--model", made.model, "-o", path.name]
        extensions.append(shlex.join([*extend, "--", earlier.name, last.prompt]))
        made, path = replace(made, shots=tuple(before)), earlier
    return " && ".join([_making(made, path), *reversed(extensions)])


def _making(made: VideoMetadata, path: Path) -> str:
    """The command line that makes a video that was made in one go."""
    from arlon_cli.presets import PRESETS

    settings = ["--seed", str(made.seed), "--steps", str(made.num_steps), "--guidance", str(made.guidance_scale)]
    settings += ["--dtype", made.dtype, *([] if made.use_ar else ["--no-ar"])]
    settings += ["--reuse", str(made.reuse)] if made.reuse else []
    settings += [word for number in made.redo for word in ("--redo", str(number))]
    settings += ["--codes", made.codes] if made.codes else []
    settings += ["--image", made.image] if made.image else []
    settings += ["--preview"] if made.preview else []
    own = PRESETS.get(made.model)  # of another model, nobody here knows what its own size and rate are
    if own is None or (made.width, made.height) != (own.width, own.height):
        settings += ["--size", f"{made.width}x{made.height}"]
    if own is None or made.fps != own.fps:
        settings += ["--fps", str(made.fps)]
    settings += ["--model", made.model, "-o", path.name]
    first = made.shots[0]
    if made.shots == (ShotRecord(first.prompt, first.num_frames, first.cut),):
        words = ["arlon", "generate", "--frames", str(first.num_frames), *settings, "--", first.prompt]
        return shlex.join(words)
    board = shlex.quote(_as_yaml({"shots": [_storyboard_entry(shot) for shot in made.shots]}))
    return f"printf %s {board} | {shlex.join(['arlon', 'storyboard', '-', *settings])}"


def _storyboard_entry(shot: ShotRecord) -> dict[str, Any]:
    entry = {"prompt": shot.prompt, "frames": shot.num_frames}
    own = {"cut": shot.cut or None, "seed": shot.seed, "steps": shot.num_steps, "guidance": shot.guidance_scale}
    return entry | {name: value for name, value in own.items() if value is not None}


def _as_yaml(value: Any) -> str:
    """One line of JSON that YAML reads as the same."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08X}" for letter in text)


def _video_facts(file: Path) -> dict[str, Any]:
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
    here = _is_installed(made)
    facts |= {
        "made_by": f"arlon {made.version}{', as a preview' if made.preview else ''}",
        "model": f"{made.model} {made.model_digest[:12]}{'' if here else ', a checkpoint that is not installed here'}",
        "seed": made.seed,
        "steps": made.num_steps,
        "guidance": made.guidance_scale,
        "codes": made.codes or ("drafted" if made.use_ar else "none"),
        "dtype": made.dtype,
    }
    facts |= {name: value for name, value in (("image", made.image), ("extends", made.extends)) if value}
    facts |= {"reuse": made.reuse} if made.reuse else {}
    facts |= {"redo": ", ".join(map(str, made.redo))} if made.redo else {}
    for number, shot in enumerate(made.shots, start=1):
        name = "prompt" if len(made.shots) == 1 else f"shot_{number}"
        length = f"goes on from {made.extends}" if made.extends else f"{shot.num_frames} frames"
        facts[name] = f"{shot.prompt} ({length}{', after a cut' if shot.cut else ''})"
    named = made if here else replace(made, model=f"CHECKPOINT-{made.model_digest[:12]}")
    again = remake_command(named, file) or f"goes on from the end of {made.extends}: `arlon extend` makes more of that"
    return facts | {"again": again}


def _is_installed(made: VideoMetadata) -> bool:
    """Whether the model of that name that is installed is the one that made a video."""
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.weights import installed_models

    folders = {folder.name: folder for folder in installed_models()}
    return made.model in folders and Checkpoint(folders[made.model]).digest == made.model_digest


def _codes_facts(file: Path) -> dict[str, Any]:
    from arlon_cli.storage.codes import read_codes

    codes, record = read_codes(file)
    return {"codes": "x".join(map(str, codes.shape))} | asdict(record)


def _checkpoint_facts(folder: Path) -> dict[str, Any]:
    from arlon_cli.storage.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder)
    return {
        "name": checkpoint.config.name,
        "digest": checkpoint.digest,
        "megabytes": round(checkpoint.num_bytes / 1e6, 1),
        "config": json.dumps(asdict(checkpoint.config)),
    }
