"""Whether two clips show the same things at the same places, whatever their colours."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_GRID = 16  # cells across and down
_LUMA = torch.tensor([0.299, 0.587, 0.114])


def layout_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """The mean correlation, frame by frame, of the brightness of 16×16 cells of two clips (T, H, W, 3) uint8.

    1 is the same layout, and about 0 what clips have that know nothing of each other; a frame of one brightness counts
    as 0. The longer clip is cut to the other's length.
    """
    num_frames = min(len(first), len(second))
    cells = [_cells(clip[:num_frames]) for clip in (first, second)]
    return float((cells[0] * cells[1]).sum(dim=1).mean())


def _cells(clip: np.ndarray) -> Tensor:
    """The brightness (T, cells) of a clip, without each frame's mean and of length 1."""
    luma = (torch.from_numpy(clip).float() @ _LUMA)[:, None]  # (T, 1, H, W)
    cells = F.adaptive_avg_pool2d(luma, _GRID).flatten(1)
    return F.normalize(cells - cells.mean(dim=1, keepdim=True), dim=1, eps=1e-3)
