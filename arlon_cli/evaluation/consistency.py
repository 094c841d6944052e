"""Whether what a video shows stays what it is, told from features of its frames."""

from collections.abc import Iterable

import numpy as np


def subject_consistency(features: Iterable[np.ndarray]) -> float:
    """VBench's subject consistency of the features, in chunks (n, D), of consecutive frames, two at least.

    Of each frame but the first, the mean of its cosine similarities to the frame before and to the first, negative ones
    as 0. VBench takes the features of DINO; with others, this is a proxy.
    """
    first = before = None
    total, count = 0.0, 0
    for chunk in features:
        for feature in chunk:
            direction = feature / max(float(np.linalg.norm(feature)), 1e-12)
            if first is None:
                first = direction
            else:
                total += (max(0.0, float(direction @ before)) + max(0.0, float(direction @ first))) / 2
                count += 1
            before = direction
    return total / count
