"""Fig. 9: two prompts, one after the other. Does the second arrive, and is there a seam?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from arlon_cli.dioramas import FAMILIES, HELD_OUT, SCENE_FRAMES, caption, mentioned, sample_scene
from arlon_cli.evaluation.appearance import largest_jump
from arlon_cli.evaluation.paper.studio import WITH_CODES, WITHOUT_CODES, Studio, Take, pictures
from arlon_cli.evaluation.prompts import read_attributes
from arlon_cli.evaluation.report import Cell, Section, Table
from arlon_cli.evaluation.results import Row
from arlon_cli.evaluation.videos import Measured, mean_metrics

NAME = "figure-9"
_NUM_PAIRS = 10  # that are shown one by one, and rendered without codes too


@dataclass(frozen=True)
class Change:
    """Two prompts, and what each tells of its span, by attribute."""

    prompts: tuple[str, str]
    told: tuple[Mapping[str, str], Mapping[str, str]]

    @property
    def changed(self) -> dict[str, str]:
        """What the second tells that the first one's span does not show."""
        return {name: value for name, value in self.told[1].items() if self.told[0].get(name, "") != value}


VOLCANO = Change(
    (
        "A majestic dormant volcano rises in the center of a tranquil landscape, with its rugged slopes contrasting "
        "the lush forest below, set against clear skies and rolling hills, evoking a sense of solitude and timeless "
        "serenity.",
        "An erupting volcano dominates the scene, with fiery lava and ash contrasting the lush forest below, as dark "
        "clouds and lightning fill the sky, capturing the chaos and power of nature's fury.",
    ),
    (
        {"family": "volcano", "state": "dormant", "weather": "clear"},
        {"family": "volcano", "state": "erupting", "weather": "storm"},
    ),
)
"""The paper's own pair"""


def changes(num_pairs: int) -> list[Change]:
    """The paper's pair, then captions of held-out scenes that change, each family in its turn."""
    found = [VOLCANO]
    families = {"volcano"}
    for index in count():
        if len(found) >= num_pairs:
            break
        family = FAMILIES[index % len(FAMILIES)]
        scene = sample_scene(HELD_OUT + index, family=family, num_frames=SCENE_FRAMES)
        if family in families or len(scene.spans) < 2:
            continue
        before, after = (span.attributes for span in scene.spans)
        prompts = caption(scene, 0, index), caption(scene, 1, index)
        said = mentioned(prompts[1], after)
        if any(before[name] != after[name] for name in said):
            told_before = {name: before[name] for name in mentioned(prompts[0], before) | said}
            found.append(Change(prompts, (told_before, {name: after[name] for name in said})))
            families = {"volcano"} if len(families) == len(FAMILIES) - 1 else families | {family}
    return found[:num_pairs]


def rows(studio: Studio) -> Iterator[Row]:
    """A row for each of the first pairs with and without codes, and with codes alone for as many as there are prompts.

    A pair has one change or two that the classifier reads, so ten pairs say little of how often one arrives.
    """
    half = studio.num_frames // 2
    for index, change in enumerate(changes(max(_NUM_PAIRS, len(studio.items)))):
        first, second = change.prompts
        shots = ((first, studio.num_frames - half), (second, half))
        for mode in (WITH_CODES, WITHOUT_CODES) if index < _NUM_PAIRS else (WITH_CODES,):
            steps = studio.config.sampling.steps(mode == WITH_CODES)
            take = Take(shots, studio.seed + index, steps, mode)
            about = {"pair": index, "frames": studio.num_frames, "mode": mode, "steps": steps}
            work = partial(studio.clip, take, with_picture=index < _NUM_PAIRS, judge=partial(_judge, studio, change))
            yield studio.row(NAME, about, work)


def _judge(studio: Studio, change: Change, frames: np.ndarray, measured: Measured) -> dict[str, Any]:
    """What the first and the last third show of what they should, and of what is new."""
    third = max(1, len(frames) // 3)
    before = read_attributes(studio.classifier, frames[:third])
    after = read_attributes(studio.classifier, frames[-third:])
    return {
        "first prompt right": _right(before, change.told[0]),
        "second prompt right": _right(after, change.told[1]),
        "change right": _right(after, change.changed),
        "largest jump": largest_jump(measured.seen),
    }


def _right(read: Mapping[str, str], told: Mapping[str, str]) -> float | None:
    """The share of what was told that was read, None where the classifier knows none of it."""
    known = [read[name] == value for name, value in told.items() if name in read]
    return sum(known) / len(known) if known else None


def section(studio: Studio, found: Sequence[Row]) -> Section:
    """The first pairs one by one, and the means of all."""
    names = ["first prompt right", "second prompt right", "change right", "largest jump"]
    numbers = [
        {name: row.values[name] for name in names}
        | {name: row.values["metrics"][name] for name in ("seam_ratio", "colour_drift", "movement")}
        for row in found
    ]
    columns = ["pair", "clips", *(name.replace("_", " ") for name in numbers[0])]
    table: list[list[Cell]] = [
        [str(row.key["pair"] + 1), row.key["mode"], *values.values()]
        for row, values in zip(found, numbers, strict=True)
        if row.key["pair"] < _NUM_PAIRS
    ]
    for mode in (WITH_CODES, WITHOUT_CODES):
        some = [values for row, values in zip(found, numbers, strict=True) if row.key["mode"] == mode]
        table.append([f"mean of {len(some)}", mode, *mean_metrics(some).values()])
    pairs = changes(_NUM_PAIRS)
    sheets = pictures(
        found, lambda row: f"{row.key['mode'].capitalize()}: {' → '.join(pairs[row.key['pair']].prompts)}"
    )
    note = (
        f"{studio.num_frames} frames, half of them under each prompt; the first pair is the paper's. Read from the "
        "first and the last third; the largest jump is the greatest change between two frames over the median one."
    )
    return Section("Fig. 9: progressive prompts", note, [Table("Pairs", columns, table), *sheets])
