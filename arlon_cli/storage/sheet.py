"""Contact sheets: frames side by side in one PNG, to look at a video at a glance."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from arlon_cli.errors import ArlonError
from arlon_cli.storage.partial import write_whole

_COLUMNS, _ROWS = 6, 4


class ContactSheet:
    """Takes a video's frames as they come, and keeps a few that are spread evenly over all `num_frames`."""

    def __init__(self, num_frames: int, columns: int = _COLUMNS, rows: int = _ROWS) -> None:
        count = min(num_frames, columns * rows)
        self.columns = columns
        self.indices = [round(i * (num_frames - 1) / max(1, count - 1)) for i in range(count)]
        self.frames: list[np.ndarray] = []
        self._passed = 0

    def add(self, frames: np.ndarray) -> None:
        """Take the next frames (n, H, W, 3) uint8."""
        kept = [i - self._passed for i in self.indices[len(self.frames) :] if i < self._passed + len(frames)]
        self.frames += [frames[i].copy() for i in kept]
        self._passed += len(frames)

    def rows(self) -> list[np.ndarray]:
        """Rows (n, H, W, 3) of what was kept."""
        return [np.stack(self.frames[i : i + self.columns]) for i in range(0, len(self.frames), self.columns)]

    def write(self, path: Path) -> None:
        """Write what was kept as rows of frames. Raises ArlonError where the file cannot be written."""
        try:
            write_sheet(self.rows(), path)
        except OSError as error:
            raise ArlonError(f"Could not write {path}: {error.strerror or error}.") from error


def write_sheet(rows: list[np.ndarray], path: Path) -> None:
    """Write rows of frames, each (n, H, W, 3) uint8, as `sheet_png` gives them. Raises OSError."""
    write_whole(path, sheet_png(rows))


def sheet_png(rows: list[np.ndarray]) -> bytes:
    """Rows of frames, each (n, H, W, 3) uint8, as one PNG with as many rows; short rows end in black."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    sheet = np.zeros((len(rows) * height, columns * width, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, frame in enumerate(row):
            sheet[i * height : (i + 1) * height, j * width : (j + 1) * width] = frame
    png = BytesIO()
    Image.fromarray(sheet).save(png, format="PNG")
    return png.getvalue()
