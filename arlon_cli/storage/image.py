"""Pictures given by the user."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from arlon_cli.errors import InputError


def read_image(path: Path, *, width: int, height: int) -> np.ndarray:
    """A picture (H, W, 3) uint8, upright, scaled to cover `width`×`height` and cut at the centre.

    Raises InputError where the file is no picture that can be read.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))
    except Exception as error:  # decoders of damaged files fail in many ways
        raise InputError(f"{path} is no picture that can be read.") from error
