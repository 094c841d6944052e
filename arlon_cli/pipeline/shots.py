"""Shots: what a video shows one after the other."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from arlon_cli.errors import InputError

MAX_FRAMES = 10_000_000
RANGES: dict[str, tuple[int, int]] = {
    "seed": (0, 2**63 - 1),
    "steps": (1, 1000),
    "guidance": (0, 100),
    "reuse": (0, 1),
    "fps": (1, 60),
}
_MAX_PROMPT = 5000
_SHORTEST_SHOT = 8


@dataclass(frozen=True)
class Shot:
    """`num_frames` frames under one prompt; with `cut`, they do not grow out of the shot before.

    `seed`, `num_steps` and `guidance_scale` are the shot's own; None stands for those of the whole video. With
    `added`, the shot was added to a finished video: the segments before it are as if that video had ended there.
    """

    prompt: str
    num_frames: int
    cut: bool = False
    seed: int | None = None
    num_steps: int | None = None
    guidance_scale: float | None = None
    added: bool = False

    def more(self, num_frames: int) -> "Shot":
        """Frames to be added behind this shot, made as it is."""
        return replace(self, num_frames=num_frames, cut=False, added=True)


def check_shots(shots: Iterable[Shot]) -> tuple[Shot, ...]:
    """The shots, prompts stripped. Raises InputError for a prompt or a number of frames that cannot be rendered."""
    checked = tuple(replace(shot, prompt=shot.prompt.strip()) for shot in shots)
    if not checked:
        raise InputError("There are no shots to render.")
    alone = len(checked) == 1
    for number, shot in enumerate(checked, start=1):
        if problem := shot_problem(shot, alone=alone):
            field, message = problem
            what = "prompt" if field == "prompt" else "number of frames"
            raise InputError(f"The {what}{'' if alone else f' of shot {number}'} {message}.")
    return checked


def shot_problem(shot: Shot, *, alone: bool) -> tuple[str, str] | None:
    """The field that is wrong with a shot, `prompt` or `frames`, and how; a shot `alone` may be of any length."""
    prompt = shot.prompt.strip()
    if not prompt:
        return "prompt", "is empty"
    if len(prompt) > _MAX_PROMPT:
        return "prompt", f"has {len(prompt)} characters; at most {_MAX_PROMPT} can be read"
    if wrong := next((letter for letter in prompt if not is_text(letter)), None):
        return "prompt", f"is not valid text: it holds the character U+{ord(wrong):04X}"
    least = 1 if alone else _SHORTEST_SHOT
    if not least <= shot.num_frames <= MAX_FRAMES:
        return "frames", f"is {shot.num_frames}; it lies between {least} and {MAX_FRAMES}"
    return None


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
    """A scene as it was each time it was finished; an added shot like the one before it makes that one longer."""
    ends = [number for number, shot in enumerate(scene) if shot.added and number]
    return [_merged(scene[:end]) for end in [*ends, len(scene)]]


def _merged(scene: Sequence[Shot]) -> tuple[Shot, ...]:
    shots: list[Shot] = []
    for shot in scene:
        if shots and shot.added and shot == shots[-1].more(shot.num_frames):
            shots[-1] = replace(shots[-1], num_frames=shots[-1].num_frames + shot.num_frames)
        else:
            shots.append(shot)
    return tuple(shots)


def frames_of(seconds: float, fps: float) -> int:
    """The number of frames of a time. Raises InputError where it is no time that can be rendered."""
    if not 0 < seconds * fps <= MAX_FRAMES:
        raise InputError(f"{seconds:g} seconds is no length that can be rendered.")
    return max(1, round(seconds * fps))


def is_text(letter: str) -> bool:
    """Whether a character may stand in a prompt: no control character but white space, and no half of a surrogate."""
    return letter in "\t\n\r" or unicodedata.category(letter) not in ("Cc", "Cs")
