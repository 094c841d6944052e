"""Sizes and rates that a model renders: its own, and of sizes those that Open-Sora v1.2's backbone was trained at."""

import re
from dataclasses import replace

from arlon_cli.config import PIXELS_PER_LATENT, ModelConfig
from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import RANGES

RESOLUTIONS = {
    "144p": 256 * 144,
    "240p": 426 * 240,
    "512": 512 * 512,
    "360p": 640 * 360,
    "480p": 854 * 480,
    "720p": 1280 * 720,
}
"""Pixels of a frame of each of Open-Sora's resolutions, and of the paper's"""
ASPECT_RATIOS = (
    *(3 / 8, 3 / 7, 12 / 25, 1 / 2, 9 / 17, 20 / 37, 9 / 16, 5 / 8, 2 / 3, 3 / 4),
    *(1.0, 4 / 3, 3 / 2, 16 / 9, 17 / 9, 2.0, 25 / 12),
)
"""Height to width, as Open-Sora has them"""
UNIT = PIXELS_PER_LATENT  # what is over is cut, as Open-Sora does


def sized(config: ModelConfig, size: tuple[int, int]) -> ModelConfig:
    """A model that renders frames of a size (width, height), cut to whole latent positions.

    Raises InputError where the DiT has not been trained at it.
    """
    width, height = size
    if size == (config.width, config.height):
        return config
    if config.published is None:
        raise InputError(
            f"{config.name} renders {config.width}x{config.height} alone, not {width}x{height}: "
            "it was trained at no other size."
        )
    nearest = min(_known_sizes(), key=lambda known: abs(known[0] - width) + abs(known[1] - height))
    known_width, known_height = (round(length) // UNIT * UNIT for length in nearest)
    if max(abs(nearest[0] - width), abs(nearest[1] - height)) >= UNIT:
        raise InputError(
            f"{width}x{height} is none of the sizes that {config.name} was trained at, {', '.join(RESOLUTIONS)} in "
            f"{len(ASPECT_RATIOS)} aspect ratios; the nearest is {known_width}x{known_height}."
        )
    return replace(config, width=known_width, height=known_height)


def at_fps(config: ModelConfig, fps: int) -> ModelConfig:
    """A model that renders `fps` frames a second, and is told so. Raises InputError for a rate out of its range."""
    low, high = RANGES["fps"]
    if fps != config.fps and not low <= fps <= high:
        raise InputError(f"{fps} frames a second cannot be rendered; a rate lies between {low} and {high}.")
    return replace(config, fps=fps)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of a text such as `1280x720`. Raises InputError."""
    match = re.fullmatch(r"([1-9]\d{0,4})[xX×]([1-9]\d{0,4})", text.strip())
    if match is None:
        raise InputError(f"The size {text!r} is not of the form WIDTHxHEIGHT, such as 640x360.")
    return int(match[1]), int(match[2])


def _known_sizes() -> list[tuple[float, float]]:
    sizes = []
    for pixels in RESOLUTIONS.values():
        for ratio in ASPECT_RATIOS:
            height = (pixels * ratio) ** 0.5
            sizes.append((height / ratio, height))
    return sizes
