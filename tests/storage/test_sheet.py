from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arlon_cli.errors import ArlonError
from arlon_cli.storage.sheet import ContactSheet


@pytest.mark.parametrize("num_frames", [1, 5, 24, 25, 731])
@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_frames_are_spread_over_the_whole_video(tmp_path: Path, num_frames: int, chunk: int) -> None:
    video = np.arange(num_frames).astype(np.uint8)[:, None, None, None] + np.zeros((2, 4, 3), np.uint8)
    sheet = ContactSheet(num_frames)
    for start in range(0, num_frames, chunk):
        sheet.add(video[start : start + chunk])
    shown = [int(frame[0, 0, 0]) for frame in sheet.frames]
    assert shown == [i % 256 for i in sheet.indices]
    assert (sheet.indices[0], sheet.indices[-1]) == (0, num_frames - 1)
    sheet.write(tmp_path / "sheet.png")
    count = min(24, num_frames)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (4 * min(count, 6), 2 * -(-count // 6))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_sheet_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    sheet = ContactSheet(1)
    sheet.add(np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ArlonError, match="Could not write"):
        sheet.write(tmp_path / "nowhere" / "sheet.png")
