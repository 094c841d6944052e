import pytest
import torch
from torch import Tensor

from arlon_cli.sampling.hold import Hold


@pytest.fixture
def vectors() -> Tensor:
    return torch.randn(10, 6, generator=torch.Generator().manual_seed(0))


def frames(*codes: int) -> list[Tensor]:
    """Frames of one code each."""
    return [torch.full((2, 3), code) for code in codes]


def test_nothing_is_held_before_there_is_a_look_to_hold_to(vectors: Tensor) -> None:
    assert Hold(vectors, 5.0).bias(frames(1, 2, 3, 4)) is None
    assert Hold(vectors, 0.0).bias(frames(1, 2, 3, 4, 5)) is None


def test_what_stays_as_it_was_is_left_alone(vectors: Tensor) -> None:
    bias = Hold(vectors, 5.0).bias(frames(3, 3, 3, 3, 3, 3))
    assert bias is not None
    assert bias.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("scene", "moves"),
    [
        ((3, 3, 3, 3, 7, 7, 7, 7), 1 + 4 / 32),
        ((3, 3, 3, 3, 3, 7), 0.25 + 1 / 32),
        ((3, 3, 3, 3, *[7] * 32), 2),  # what has moved for long counts twice
        ((3, 3, 3, 3, 7, 7, 3, 3, 3, 3), 2 / 32),  # and what came back, a little still
    ],
)
@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_codes_that_lead_back_gain_over_those_that_go_on(
    vectors: Tensor, scene: tuple[int, ...], moves: float, strength: float
) -> None:
    bias = Hold(vectors, strength).bias(frames(*scene))
    assert bias is not None
    variance = (vectors - vectors.mean(0)).square().sum(1).mean()
    distance = (vectors[3] - vectors[7]).square().sum()
    assert (bias[3] - bias[7]).item() == pytest.approx((moves * strength * distance / variance).item(), rel=1e-4)


def test_the_scale_and_the_origin_of_the_codebook_do_not_matter(vectors: Tensor) -> None:
    scene = frames(3, 3, 3, 3, 5, 7, 7)
    biases = [Hold(some, 2.0).bias(scene) for some in (vectors, 30 * vectors - 8)]
    held, same = (bias.softmax(0) for bias in biases if bias is not None)
    torch.testing.assert_close(held, same)


def test_it_keeps_a_random_walk_where_it_began(vectors: Tensor) -> None:
    def walk(strength: float) -> float:
        """How far the look has gone when most codes stay and some are drawn, the same anew each time."""
        hold, generator = Hold(vectors, strength), torch.Generator().manual_seed(1)
        scene = [torch.randint(10, (8, 8), generator=generator) % 2] * 4
        for _ in range(60):
            bias = hold.bias(scene)
            share = (torch.zeros(10) if bias is None else bias).softmax(0)
            drawn = share.multinomial(64, replacement=True, generator=generator).view(8, 8)
            scene.append(torch.where(torch.rand(8, 8, generator=generator) < 0.1, drawn, scene[-1]))
        return float((vectors[scene[-1]].mean((0, 1)) - vectors[scene[0]].mean((0, 1))).norm())

    assert walk(8.0) < 0.5 * walk(0.0)
