"""Shots: what a video shows one after the other, and the storyboard files that list them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from arlon_cli.errors import InputError

MAX_FRAMES = 10_000_000
_SHORTEST_SHOT = 8


@dataclass(frozen=True)
class Shot:
    """`num_frames` frames under one prompt; with `cut`, they do not grow out of the shot before.

    With `added`, they were added to a finished video: the segments before them are as if that video had ended there.
    """

    prompt: str
    num_frames: int
    cut: bool = False
    added: bool = False


@dataclass(frozen=True)
class Storyboard:
    """Shots in order; a title and a seed where the file gives them."""

    title: str | None
    shots: tuple[Shot, ...]
    seed: int | None


def check_shots(shots: Iterable[Shot]) -> tuple[Shot, ...]:
    """The shots, prompts stripped. Raises InputError for an empty prompt or a number of frames out of range."""
    checked = tuple(replace(shot, prompt=shot.prompt.strip()) for shot in shots)
    for number, shot in enumerate(checked, start=1):
        where = "The prompt" if len(checked) == 1 else f"The prompt of shot {number}"
        if not shot.prompt:
            raise InputError(f"{where} is empty.")
        if "\0" in shot.prompt or any("\ud800" <= letter <= "\udfff" for letter in shot.prompt):
            raise InputError(f"{where} is not valid text (UTF-8).")
        least = 1 if len(checked) == 1 else _SHORTEST_SHOT
        if not least <= shot.num_frames <= MAX_FRAMES:
            what = "The number of frames" if len(checked) == 1 else f"The number of frames of shot {number}"
            raise InputError(f"{what} is {shot.num_frames}; it lies between {least} and {MAX_FRAMES}.")
    if not checked:
        raise InputError("There are no shots to render.")
    return checked


def scenes_of(shots: Iterable[Shot]) -> list[tuple[Shot, ...]]:
    """Shots grouped by the cuts between them: within a scene, each grows out of the one before."""
    scenes: list[tuple[Shot, ...]] = []
    for shot in shots:
        if shot.cut or not scenes:
            scenes.append((shot,))
        else:
            scenes[-1] += (shot,)
    return scenes


def stages_of(scene: Sequence[Shot]) -> list[tuple[Shot, ...]]:
    """A scene as it was each time it was finished; an added shot of the same prompt makes the one before it longer."""
    ends = [number for number, shot in enumerate(scene) if shot.added and number]
    return [_merged(scene[:end]) for end in [*ends, len(scene)]]


def _merged(scene: Sequence[Shot]) -> tuple[Shot, ...]:
    shots: list[Shot] = []
    for shot in scene:
        if shots and shot.added and shot.prompt == shots[-1].prompt:
            shots[-1] = replace(shots[-1], num_frames=shots[-1].num_frames + shot.num_frames)
        else:
            shots.append(shot)
    return tuple(shots)


def read_storyboard(path: Path, fps: int) -> Storyboard:
    """Read a YAML file: `shots`, each with `prompt`, `frames` or `seconds`, perhaps `cut`; perhaps `title` and `seed`.

    Raises InputError that names the shot and the field.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Could not read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML: {reason}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("shots"), list) or not data["shots"]:
        raise InputError(f"{path} has no list `shots`.")
    if unknown := data.keys() - {"title", "seed", "shots"}:
        names = ", ".join(sorted(map(str, unknown)))
        raise InputError(f"{path}: unknown field {names}; known are title, seed and shots.")
    title, seed = data.get("title"), data.get("seed")
    if title is not None and not isinstance(title, str):
        raise InputError(f"{path}: title is {title!r}, which is no text.")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise InputError(f"{path}: seed is {seed!r}, which is no whole number.")
    shots = [_read_shot(entry, f"{path}: shot {number}", fps) for number, entry in enumerate(data["shots"], start=1)]
    return Storyboard(title, check_shots(shots), seed)


def _read_shot(entry: Any, where: str, fps: int) -> Shot:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is no mapping with a prompt.")
    if unknown := entry.keys() - {"prompt", "frames", "seconds", "cut"}:
        raise InputError(
            f"{where}: unknown field {', '.join(sorted(map(str, unknown)))}; known are prompt, frames, seconds and cut."
        )
    prompt, cut = entry.get("prompt"), entry.get("cut", False)
    if not isinstance(prompt, str):
        raise InputError(f"{where} has no prompt.")
    if not isinstance(cut, bool):
        raise InputError(f"{where}: cut is {cut!r}; it is true or false.")
    if ("frames" in entry) == ("seconds" in entry):
        raise InputError(f"{where} needs either frames or seconds.")
    name = "frames" if "frames" in entry else "seconds"
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int if name == "frames" else (int, float)):
        raise InputError(f"{where}: {name} is {value!r}, which is no {'whole ' if name == 'frames' else ''}number.")
    return Shot(prompt, int(value) if name == "frames" else frames_of(value, fps), cut)


def frames_of(seconds: float, fps: float) -> int:
    """The number of frames of a time. Raises InputError where it is no time that can be rendered."""
    if not 0 < seconds * fps <= MAX_FRAMES:
        raise InputError(f"{seconds:g} seconds is no length that can be rendered.")
    return max(1, round(seconds * fps))
