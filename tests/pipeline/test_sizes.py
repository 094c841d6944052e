from dataclasses import replace

import pytest

from arlon_cli.config import ModelConfig
from arlon_cli.errors import InputError
from arlon_cli.pipeline.sizes import at_fps, parse_size, sized
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2


@pytest.mark.parametrize(
    ("asked", "rendered"),
    [
        ((256, 144), (256, 144)),
        ((426, 240), (424, 240)),  # names of Open-Sora's that 8 does not divide
        ((854, 480), (848, 480)),
        ((720, 1280), (720, 1280)),
        ((1568, 588), (1568, 584)),
        ((192, 192), (192, 192)),
        ((512, 512), (512, 512)),
    ],
)
def test_open_soras_sizes_are_cut_to_whole_latents(asked: tuple[int, int], rendered: tuple[int, int]) -> None:
    config = sized(OPENSORA_V1_2, asked)
    assert (config.width, config.height) == rendered
    assert sized(config, rendered) == config  # what was rendered may be asked for


@pytest.mark.parametrize("size", [(1920, 1080), (512, 128), (128, 128), (600, 512), (0, 0)])
def test_other_sizes_are_named_with_the_nearest(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"{size[0]}x{size[1]} is none of the sizes .* the nearest is \d+x\d+"):
        sized(OPENSORA_V1_2, size)


def test_a_model_trained_at_one_size_renders_that_alone() -> None:
    assert sized(DIORAMA, (128, 128)) == DIORAMA
    with pytest.raises(InputError, match="diorama renders 128x128 alone, not 256x144"):
        sized(DIORAMA, (256, 144))


@pytest.mark.parametrize("config", [DIORAMA, OPENSORA_V1_2])
def test_rates_lie_between_bounds(config: ModelConfig) -> None:
    for fps in (1, 24, 60):
        assert at_fps(config, fps) == replace(config, fps=fps)
    for fps in (-1, 0, 61):
        with pytest.raises(
            InputError, match=f"^{fps} frames a second cannot be rendered; a rate lies between 1 and 60"
        ):
            at_fps(config, fps)
    assert at_fps(replace(config, fps=120), 120).fps == 120  # a model's own, whatever it is


@pytest.mark.parametrize("text", ["640", "640x", "x360", "640x360x3", "-640x360", "6e2x360", "0x360", ""])
def test_sizes_have_one_form(text: str) -> None:
    with pytest.raises(InputError, match="is not of the form"):
        parse_size(text)
    assert parse_size(" 640x360 ") == (640, 360)
