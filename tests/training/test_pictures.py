import math
from itertools import count
from pathlib import Path

import pytest
import torch

from arlon_cli.dioramas import ATTRIBUTES, Scene, render, sample_scene
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.training import classifier
from arlon_cli.training.data import SCENE_FRAMES
from arlon_cli.training.pictures import read_pictures, write_pictures

CPU = torch.device("cpu")


def write(folder: Path, seconds: float = math.inf, stop: bool = False) -> None:
    write_pictures(
        folder,
        image_size=16,
        first=7,
        seconds=seconds,
        most=8,
        stop=lambda: stop,
        per_file=4,
    )


def pictured(seed: int) -> Scene:
    """Of four seeds two stand for their own scenes, one for a scene in company, and the last for that one alone."""
    turn = seed % 4
    if turn < 2:
        return sample_scene(seed, num_frames=SCENE_FRAMES)
    tried = (sample_scene(other, num_frames=SCENE_FRAMES) for other in count(seed - turn + 2, 1 << 32))
    scene = next(scene for scene in tried if scene.company != "none")
    return scene if turn == 2 else scene.alone()


def test_pictures_show_what_their_values_say(tmp_path: Path) -> None:
    write(tmp_path)
    names = ["family", "state", "time", "company"]
    pictures, values = read_pictures(tmp_path, names)
    assert pictures.shape == (8 * 6, 3, 16, 16)
    assert values.shape == (8 * 6, 4)
    for index in range(8):
        scene = pictured(7 + index)
        settled = [frame for span in scene.spans for frame in range(span.settled, span.end)]
        painted = (render([scene], torch.tensor(settled), 16, CPU)[0] * 255).round().byte()
        for picture, told in zip(pictures[6 * index : 6 * index + 6], values[6 * index :], strict=False):
            frames = [frame for frame, there in zip(settled, painted, strict=True) if torch.equal(there, picture)]
            [span] = [span for span in scene.spans if any(span.start <= frame < span.end for frame in frames)]
            assert [ATTRIBUTES[name][value] for name, value in zip(names, told.tolist(), strict=True)] == [
                span.attributes[name] for name in names
            ]


def test_a_scene_in_company_comes_back_alone(tmp_path: Path) -> None:
    write(tmp_path)
    pictures, values = (part.unflatten(0, (8, 6)) for part in read_pictures(tmp_path, list(ATTRIBUTES)))
    place, none = list(ATTRIBUTES).index("company"), len(ATTRIBUTES["company"]) - 1
    first = 10 - 7  # the seed whose turn it is
    both, alone = values[first], values[first + 1]
    assert (both[:, place] != none).all()
    assert (alone[:, place] == none).all()
    assert torch.equal(both.index_fill(1, torch.tensor([place]), none), alone)
    differ = (pictures[first] != pictures[first + 1]).any(1).flatten(1).float().mean(1)
    assert (differ < 0.5).all()
    assert (differ > 0).any()


def test_what_is_there_stays_and_time_ends_it(tmp_path: Path) -> None:
    write(tmp_path, seconds=0.0)  # one file in any case
    [file] = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    write(tmp_path, stop=True)
    assert list(tmp_path.iterdir()) == [file]
    write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_classifier_learns_what_a_few_pictures_show(tmp_path: Path) -> None:
    write(tmp_path)
    pictures, values = read_pictures(tmp_path, classifier.VISIBLE)
    torch.manual_seed(0)
    model = AttributeClassifier(classifier.VISIBLE, width=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss, accuracies = classifier.loss(model, pictures / 127.5 - 1, values)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(accuracies.values()) > 0.9
