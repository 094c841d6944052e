"""Contact sheets: frames side by side in one PNG, to look at a video at a glance."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_sheet(rows: list[np.ndarray], path: Path) -> None:
    """Write rows of frames, each (n, H, W, 3) uint8, as one PNG with as many rows; short rows end in black."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    sheet = np.zeros((len(rows) * height, columns * width, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, frame in enumerate(row):
            sheet[i * height : (i + 1) * height, j * width : (j + 1) * width] = frame
    temporary = path.with_name(path.name + ".tmp")
    Image.fromarray(sheet).save(temporary, format="PNG")
    temporary.replace(path)
