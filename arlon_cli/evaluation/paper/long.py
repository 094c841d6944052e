"""Table 1: long videos; ours, without codes, and with FreeNoise's noise instead of each segment's own."""

from collections.abc import Iterator, Sequence
from functools import partial

from arlon_cli.evaluation.paper.studio import (
    PAINTED,
    RESCHEDULED,
    WITH_CODES,
    WITHOUT_CODES,
    Studio,
    Take,
    pictures,
)
from arlon_cli.evaluation.report import Cell, Section, Table
from arlon_cli.evaluation.results import Row

NAME = "table-1"
_SHOWN_PROMPTS = 4


def rows(studio: Studio) -> Iterator[Row]:
    """A row for each prompt as painted and in each mode."""
    length = studio.num_frames
    for index, item in enumerate(studio.items):
        about = {"prompt": index, "frames": length}
        yield studio.row(NAME, about | {"mode": PAINTED}, partial(studio.painted, item, length))
        for mode, steps in _modes(studio).items():
            take = Take(((item.prompt, length),), studio.seed + index, steps, mode)
            work = partial(studio.clip, take, with_picture=index < _SHOWN_PROMPTS)
            yield studio.row(NAME, about | {"mode": mode, "steps": steps}, work)


def section(studio: Studio, found: Sequence[Row]) -> Section:
    """Means over the prompts."""
    by_mode = {mode: [row for row in found if row.key["mode"] == mode] for mode in (PAINTED, *_modes(studio))}
    summaries = {mode: studio.summary(some, by_mode[PAINTED]) for mode, some in by_mode.items()}
    steps = {PAINTED: None} | _modes(studio)
    table: list[list[Cell]] = [[mode, steps[mode], *values.values()] for mode, values in summaries.items()]
    sheets = pictures(found, lambda row: f"{row.key['mode'].capitalize()}: {studio.items[row.key['prompt']].prompt}")
    note = (
        f"{len(studio.items)} held-out prompts, {studio.num_frames} frames. FreeNoise's noise: segments without codes, "
        "all of whose noise is the first one's, shuffled; its attention over windows is not part of it. Painted scenes "
        "last as long as their first state does."
    )
    return Section(
        "Table 1: long videos", note, [Table("Long videos", ["clips", "steps", *summaries[PAINTED]], table), *sheets]
    )


def _modes(studio: Studio) -> dict[str, int]:
    """Steps of each mode."""
    sampling = studio.config.sampling
    return {mode: sampling.steps(mode == WITH_CODES) for mode in (WITH_CODES, WITHOUT_CODES, RESCHEDULED)}
