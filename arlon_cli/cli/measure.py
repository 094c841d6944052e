"""What `arlon evaluate` does with videos."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from arlon_cli.errors import CheckpointError, InputError
from arlon_cli.storage.dataset import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

    from arlon_cli.config import ModelConfig
    from arlon_cli.evaluation.overview import Video
    from arlon_cli.evaluation.videos import Seams
    from arlon_cli.models.attribute_classifier import AttributeClassifier
    from arlon_cli.pipeline.shots import Shot
    from arlon_cli.storage.metadata import VideoMetadata
    from arlon_cli.storage.video import VideoInfo

    Embed = Callable[[Path], Iterator[np.ndarray]]
    """the path of a video -> features of its frames, in chunks (n, D)"""

_CHUNK = 64  # frames in memory
_LEAST_SIDE = 8  # of frames whose optical flow is measured
_SHEET_FRAMES, _SHEET_HEIGHT = 8, 128


def video_files(paths: Iterable[Path]) -> list[Path]:
    """The videos named, and those in the folders named. Raises InputError where there is none."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
        if not inside:
            raise InputError(f"There is no video in the folder {path}.")
        files += inside
    return files


def measure_videos(
    files: Sequence[Path], model: str | None, with_sheets: bool, on_event: Callable[[str], None]
) -> "tuple[list[Video], list[InputError]]":
    """Measure videos one after the other; `model` is the one that made them.

    Returns those that could be measured, and what stood against the others. Raises InputError where there are none.
    """
    embed = _reader(model)
    measured: list[Video] = []
    problems: list[InputError] = []
    for path in files:
        try:
            measured.append(_measure(path, model, embed, with_sheets, on_event))
        except InputError as error:
            problems.append(error if str(path) in str(error) else InputError(f"{path}: {error}"))
    if not measured:
        raise problems[0]
    return measured, problems


def _reader(model: str | None) -> "Embed | None":
    """What gives a video's features, by the classifier of the model that is named, else of the default one.

    None where the default model is not installed, or the model has no classifier.
    """
    import numpy as np
    import torch

    from arlon_cli.evaluation.prompts import features
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.video import read_frames
    from arlon_cli.storage.weights import find_weights

    try:
        checkpoint = Checkpoint(find_weights(model or "diorama"))
    except CheckpointError:
        if model is not None:
            raise
        return None
    if not checkpoint.has("classifier"):
        return None
    classifier = cast("AttributeClassifier", checkpoint.load("classifier", "cpu", torch.float32))
    config = checkpoint.config

    def embed(path: Path) -> "Iterator[np.ndarray]":
        frames = read_frames(path, width=config.width, height=config.height)
        while chunk := list(islice(frames, _CHUNK)):
            yield features(classifier, np.stack(chunk))

    return embed


def _measure(
    path: Path, model: str | None, embed: "Embed | None", with_sheet: bool, on_event: Callable[[str], None]
) -> "Video":
    from arlon_cli.evaluation.overview import Video
    from arlon_cli.evaluation.videos import measure_video
    from arlon_cli.storage.metadata import VideoMetadata
    from arlon_cli.storage.video import probe, read_frames

    on_event(f"Measuring {path}")
    found = probe(path)
    if not found.fps:
        raise InputError(f"{path} does not say how many frames a second it has.")
    if min(found.width, found.height) < _LEAST_SIDE or found.num_frames < 2:
        size = f"{found.num_frames} frames of {found.width}x{found.height}"
        raise InputError(f"{path} has {size}, too little to be measured: at least 2 of {_LEAST_SIDE}x{_LEAST_SIDE}.")
    made = VideoMetadata.from_json(found.comment)
    config = None if made is None else _config(made, model)
    seams = None
    if made is not None and config is not None and _is_as_planned(made, found):
        from arlon_cli.pipeline.shots import Shot

        seams = seams_of([Shot(**asdict(shot)) for shot in made.shots], config)

    def read() -> "Iterator[np.ndarray]":
        return read_frames(path, width=found.width, height=found.height)

    measured = measure_video(read, found.fps, seams, None if embed is None else embed(path))
    return Video(str(path), measured, seams, _sheet(path, found) if with_sheet else None)


def _sheet(path: Path, found: "VideoInfo") -> bytes:
    """A PNG of a few frames of a video."""
    from arlon_cli.storage.sheet import ContactSheet, sheet_png
    from arlon_cli.storage.video import read_frames

    sheet = ContactSheet(found.num_frames, columns=_SHEET_FRAMES, rows=1)
    width = max(1, round(found.width / found.height * _SHEET_HEIGHT))
    for frame in read_frames(path, width=width, height=_SHEET_HEIGHT):
        sheet.add(frame[None])
    return sheet_png(sheet.rows())


def _config(made: "VideoMetadata", model: str | None) -> "ModelConfig | None":
    """The model that made a video; None where it is neither a preset nor the one named."""
    from arlon_cli.presets import PRESETS
    from arlon_cli.storage.weights import find_weights, read_config

    configs = dict(PRESETS)
    if model is not None:
        named = read_config(find_weights(model))
        configs[named.name] = named
    return configs.get(made.model)


def _is_as_planned(made: "VideoMetadata", found: "VideoInfo") -> bool:
    """Whether a video's frames are those of its shots: not what came before them, codes alone, or what a cut left."""
    return not (made.extends or made.preview) and found.num_frames == sum(shot.num_frames for shot in made.shots)


def seams_of(shots: Sequence["Shot"], config: "ModelConfig") -> "Seams":
    """Where a video of these shots was put together."""
    from arlon_cli.evaluation.videos import Seams
    from arlon_cli.pipeline.segments import plan_segments
    from arlon_cli.pipeline.shots import scenes_of, stages_of

    chunk = config.video_vae.chunk
    joins: list[int] = []
    cuts: list[int] = []
    start = 0
    for scene in scenes_of(shots):
        cuts += [start] if start else []
        done = 0  # latents of the scene
        for stage in stages_of(scene):
            num_latents = chunk.latents(sum(shot.num_frames for shot in stage))
            starts = [s.start + s.overlap for s in plan_segments(num_latents, config.segments, done)]
            joins += [start + chunk.frames(latent) for latent in starts if latent]
            done = max(done, num_latents)
        start += sum(shot.num_frames for shot in scene)
    return Seams(tuple(joins), tuple(cuts))
