"""Pictures of dioramas, painted once: what the classifier learns from."""

import random
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from arlon_cli.dioramas import Scene
from arlon_cli.storage.partial import write_whole
from arlon_cli.training.data import attribute_values, scene_of
from arlon_cli.training.painting import files_to_write, paint_files

_OF_A_SCENE = 6  # preparing a scene takes as long as painting a dozen of its frames
_FURTHER = 1 << 32  # between the seeds that are tried for a scene in company


def write_pictures(
    folder: Path,
    *,
    image_size: int,
    first: int,
    seconds: float,
    most: int,
    stop: Callable[[], bool],
    per_file: int = 32,
) -> None:
    """Paint pictures into `folder` for so many seconds, or of `most` scenes; files that exist stay.

    The seeds go up from `first`. Half of them stand for a scene in company and the same scene alone, by turns: company
    is small and rare, and else would hardly be learnt.
    """
    files = files_to_write(folder, first=first, per_file=per_file, most=most, seconds=seconds, stop=stop)
    for file, seeds, painted in paint_files(files, _chosen, image_size):
        frames = torch.tensor([_chosen(seed)[1] for seed in seeds])
        tensors = {"pictures": torch.stack(painted), "seeds": torch.tensor(seeds), "frames": frames}
        write_whole(file, save(tensors))


def read_pictures(folder: Path, names: Iterable[str]) -> tuple[Tensor, Tensor]:
    """What `write_pictures` wrote, (N, 3, size, size) uint8, and the values (N, A) of the attributes `names`."""
    wanted = list(names)
    pictures, values = [], []
    for file in sorted(folder.glob("[!.]*.safetensors")):
        tensors = load_file(file)
        pictures.append(tensors["pictures"].flatten(0, 1))
        for seed, frames in zip(tensors["seeds"].tolist(), tensors["frames"].tolist(), strict=True):
            scene = _scene(seed)
            values += [attribute_values(scene, frame, wanted) for frame in frames]
    return torch.cat(pictures), torch.tensor(values)


def _chosen(seed: int) -> tuple[Scene, list[int]]:
    """The scene of a seed, and a few of its frames, none of them while its state changes."""
    scene = _scene(seed)
    settled = [f for span in scene.spans for f in range(span.settled, span.end)]
    return scene, sorted(random.Random(f"{scene.seed} pictures").sample(settled, _OF_A_SCENE))


def _scene(seed: int) -> Scene:
    """The scene that a seed stands for."""
    turn = seed % 4  # two of any kind, one in company, and that one alone
    if turn < 2:
        return scene_of(seed)
    tried = map(scene_of, count(seed - turn + 2, _FURTHER))
    scene = next(scene for scene in tried if scene.company != "none")
    return scene if turn == 2 else scene.alone()
