"""What made a video: kept as JSON in its comment."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from arlon_cli.storage.records import build_record


@dataclass(frozen=True)
class ShotRecord:
    """A prompt, the number of its frames, settings of the shot's own, or None; `added` to a finished video or not."""

    prompt: str
    num_frames: int
    cut: bool
    seed: int | None = None
    num_steps: int | None = None
    guidance_scale: float | None = None
    added: bool = False


@dataclass(frozen=True)
class VideoMetadata:
    """Everything needed to make the video again; `last_latents` is the key, in the store, of its last segment.

    `codes`, `image` and `extends` name the files that it started from, "" where there is none: codes of a clip, a
    picture, a video whose frames come first. `num_frames` counts all frames, 0 where it was not noted. `preview` tells
    a clip made from the codes alone.
    """

    version: str
    model: str
    model_digest: str
    shots: tuple[ShotRecord, ...]
    seed: int
    num_steps: int
    guidance_scale: float
    use_ar: bool
    width: int
    height: int
    fps: int
    dtype: str
    last_latents: str
    num_frames: int = 0
    codes: str = ""
    image: str = ""
    extends: str = ""
    redo: tuple[int, ...] = ()
    preview: bool = False
    reuse: float = 0.0

    def to_json(self) -> str:
        return json.dumps({"arlon": asdict(self)}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """What `to_json` wrote; None for any other text."""
        try:
            data: Any = json.loads(text)["arlon"]
            shots = tuple(build_record(ShotRecord, shot) for shot in data["shots"])
            redo = tuple(map(int, data.get("redo", ())))
            return build_record(cls, {**data, "shots": shots, "redo": redo}) if shots else None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
