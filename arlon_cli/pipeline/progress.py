"""How far a run is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Progress:
    """Where a run is: `stage` is `text`, `draft`, `preview`, `denoise`, `decode` or `stored` (found in the store).

    Segments count from 1 over the whole video, or over all that are rendered ahead; `num_frames` are done.
    """

    stage: str
    segment: int
    num_segments: int
    step: int
    num_steps: int
    num_frames: int
    total_frames: int


@dataclass
class Run:
    """Counts what a run has done and reports it."""

    on_progress: Callable[[Progress], None]
    num_segments: int
    total_frames: int
    num_steps: int
    segment: int = 0
    num_frames: int = 0

    def report(self, stage: str, step: int = 0) -> None:
        """Tell where the run is; `stage` and `step` as `Progress` has them."""
        progress = Progress(
            stage, self.segment, self.num_segments, step, self.num_steps, self.num_frames, self.total_frames
        )
        self.on_progress(progress)

    def pass_by(self, num_frames: int) -> None:
        """Count frames as done; a last segment may have more than are wanted."""
        self.num_frames = min(self.num_frames + num_frames, self.total_frames)

    def count(self, chunks: Iterable[np.ndarray], stage: str = "decode") -> Iterator[np.ndarray]:
        """Chunks of frames (n, H, W, 3) as they come, each counted once the caller asks for the next."""
        for frames in chunks:
            yield frames
            self.num_frames += len(frames)
            self.report(stage)
