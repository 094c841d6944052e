"""Fig. 15: the codes of one clip, rendered under another prompt."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from arlon_cli.dioramas import FAMILIES
from arlon_cli.evaluation.layout import layout_agreement
from arlon_cli.evaluation.paper.studio import WITH_CODES, Studio, Take, pictures
from arlon_cli.evaluation.prompts import HeldOut, held_out, prompt_accuracy
from arlon_cli.evaluation.report import Cell, Section, Table
from arlon_cli.evaluation.results import Row
from arlon_cli.evaluation.videos import Measured

NAME = "figure-15"
REFERENCE, OWN, OTHER, DRAFTED = (
    "the clip",
    "its codes, its prompt",
    "its codes, another prompt",
    "the other prompt alone",
)


def rows(studio: Studio) -> Iterator[Row]:
    """A row for each clip, and for what its codes become under its own prompt and another of the same family."""
    length = studio.clip_frames
    for index, (item, other) in enumerate(_pairs(len(studio.items))):
        about = {"pair": index, "frames": length}
        yield studio.row(NAME, about | {"mode": REFERENCE}, partial(studio.painted, item, length, with_picture=True))
        for mode, prompt, like in (
            (OWN, item.prompt, item),
            (OTHER, other.prompt, item),
            (DRAFTED, other.prompt, None),
        ):
            take = Take(((prompt, length),), studio.seed + index, studio.config.sampling.num_steps, WITH_CODES, like)
            work = partial(studio.clip, take, with_picture=True, judge=partial(_judge, studio, item))
            yield studio.row(NAME, about | {"mode": mode, "steps": take.num_steps}, work)


def _pairs(num_items: int) -> list[tuple[HeldOut, HeldOut]]:
    """Held-out scenes, one of a family, each with another of its family."""
    items = held_out(2 * len(FAMILIES))
    return list(zip(items, items[len(FAMILIES) :], strict=False))[:num_items]


def _judge(studio: Studio, item: HeldOut, frames: np.ndarray, measured: Measured) -> dict[str, Any]:
    (painted,) = studio.paint([item], len(frames))
    return {"layout agreement": layout_agreement(frames, painted)}


def section(studio: Studio, found: Sequence[Row]) -> Section:
    """How much of the clip's layout and of either prompt each kind shows, on average."""
    pairs = _pairs(len(studio.items))
    table: list[list[Cell]] = []
    for mode in (REFERENCE, OWN, OTHER, DRAFTED):
        some = [row for row in found if row.key["mode"] == mode]
        layouts = [row.values["layout agreement"] for row in some if "layout agreement" in row.values]
        accuracies = [
            prompt_accuracy((pairs[row.key["pair"]][side], row.values["read"]) for row in some).get("overall")
            for side in (0, 1)
        ]
        table.append([mode, float(np.mean(layouts)) if layouts else 1.0, *accuracies])
    columns = ["rendered from", "layout as in the clip", "the clip's attributes right", "the other prompt's right"]
    sheets = pictures(found, lambda row: f"{row.key['mode'].capitalize()}: {_prompt(pairs[row.key['pair']], row)}")
    note = (
        f"{len(pairs)} painted clips of {studio.clip_frames} frames, encoded, and rendered under a caption of another "
        "scene of the same family. The layout is the correlation of brightness over 16×16 cells with the clip's."
    )
    return Section("Fig. 15: codes of a clip", note, [Table("Codes of a clip", columns, table), *sheets])


def _prompt(pair: tuple[HeldOut, HeldOut], row: Row) -> str:
    return pair[row.key["mode"] not in (REFERENCE, OWN)].prompt
