"""A whole video, from the start of a process to a finished mp4."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench.timing import Spread, peak_memory
from arlon_cli.storage.video import VideoWriter

_HEADER = 1024  # bytes of a file that holds no frame yet, at most


@dataclass(frozen=True)
class Whole:
    """A video's numbers; seconds count from the start of the process, Python's own start and all imports included.

    Loaded are all parts, with the prompt read; the rate is that of what follows, from codes to the mp4 under its name.
    A frame is on disk when the encoder has written, of which each chunk of frames takes note. Memory is the device's,
    or on a CPU this process's without the encoder's; None where nothing tells.
    """

    num_frames: int
    load_seconds: float
    first_frame_seconds: float
    first_on_disk_seconds: float
    frames_per_second: float
    peak_memory_gb: float | None


def measure_whole(
    chunks: Iterable[np.ndarray], path: Path, config: ModelConfig, device: torch.device, started: float
) -> Whole:
    """Write chunks of frames (n, H, W, 3) as they come; all is loaded, in a process `started` at a `time.time()`.

    `path` is in a folder of its own.
    """
    loaded = time.time()
    first = on_disk = 0.0
    with VideoWriter(path, width=config.width, height=config.height, fps=config.fps, comment="") as writer:
        for frames in chunks:
            first = first or time.time()
            writer.write(frames)
            if not on_disk and sum(file.stat().st_size for file in path.parent.iterdir()) > _HEADER:
                on_disk = time.time()
    end = time.time()
    return Whole(
        num_frames=writer.num_frames,
        load_seconds=loaded - started,
        first_frame_seconds=first - started,
        first_on_disk_seconds=(on_disk or end) - started,
        frames_per_second=writer.num_frames / (end - loaded),
        peak_memory_gb=peak_memory(device),
    )


def whole_numbers(videos: Sequence[Whole]) -> dict[str, Any]:
    """The number of frames, and of each other number its median, least and most over the same video's repeats."""
    numbers: dict[str, Any] = {"num_frames": videos[0].num_frames}
    for name in asdict(videos[0]):
        values = [getattr(video, name) for video in videos]
        if name not in numbers:
            numbers[name] = None if None in values else asdict(Spread.of(values))
    return numbers
