"""Company: what else a scene shows is painted where it says so, alters nothing where it does not, and is always told."""

from itertools import count

import pytest
import torch

from arlon_cli.dioramas import Scene, caption, mentioned, render, sample_scene
from arlon_cli.dioramas.scene import COMPANY

FRAMES = torch.tensor([40])


def in_company(family: str, company: str) -> Scene:
    scenes = (sample_scene(seed, family=family, num_frames=160, changing=False) for seed in count())
    return next(scene for scene in scenes if scene.company == company)


@pytest.mark.parametrize(("family", "company"), [(family, value) for family in COMPANY for value in COMPANY[family]])
def test_company_is_a_small_thing_in_the_scene_that_would_be_there_without_it(family: str, company: str) -> None:
    scene = in_company(family, company)
    changed = (render([scene], FRAMES, 64) - render([scene.alone()], FRAMES, 64)).abs().amax(dim=2)[0, 0] > 0.02
    assert 0.001 < changed.float().mean() < 0.25
    above, below = changed[:20].any(), changed[32:].any()
    assert above or company == "sailboat"
    assert below or company == "balloon"


@pytest.mark.parametrize("family", COMPANY)
def test_every_caption_tells_the_company(family: str) -> None:
    scene = in_company(family, COMPANY[family][-1])
    for seed in range(40):
        assert "company" in mentioned(caption(scene, 0, seed), scene.spans[0].attributes)


def test_there_is_none_in_a_storm_or_beside_an_eruption() -> None:
    for seed in range(400):
        scene = sample_scene(seed, family=list(COMPANY)[seed % len(COMPANY)], num_frames=320)
        companies = {span.attributes["company"] for span in scene.spans}
        assert len(companies) == 1
        if any(span.attributes["weather"] == "storm" or span.attributes["state"] == "erupting" for span in scene.spans):
            assert companies == {"none"}
