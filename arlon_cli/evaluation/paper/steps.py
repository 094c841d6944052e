"""Fig. 7: quality against the number of denoising steps, with and without codes."""

from collections.abc import Iterator, Sequence
from functools import partial

from arlon_cli.evaluation.paper.studio import PAINTED, WITH_CODES, WITHOUT_CODES, Studio, Take, pictures
from arlon_cli.evaluation.report import Cell, Plot, Section, Table
from arlon_cli.evaluation.results import Row

NAME = "figure-7"
STEPS = (1, 2, 3, 5, 8, 10, 20, 30)
_PLOTTED = ("prompt accuracy", "Fréchet distance to real frames", "subject consistency proxy", "movement")
_SHOWN_PROMPTS, _SHOWN_STEPS = 2, (1, 3, 5, 30)


def rows(studio: Studio) -> Iterator[Row]:
    """A row for each prompt as painted, and as rendered in each number of steps with and without codes."""
    length = studio.clip_frames
    for index, item in enumerate(studio.items):
        about = {"prompt": index, "frames": length}
        yield studio.row(NAME, about | {"mode": PAINTED}, partial(studio.painted, item, length))
        for mode in (WITH_CODES, WITHOUT_CODES):
            for steps in STEPS:
                take = Take(((item.prompt, length),), studio.seed + index, steps, mode)
                with_picture = index < _SHOWN_PROMPTS and steps in _SHOWN_STEPS
                work = partial(studio.clip, take, with_picture=with_picture)
                yield studio.row(NAME, about | {"mode": mode, "steps": steps}, work)


def section(studio: Studio, found: Sequence[Row]) -> Section:
    """Means over the prompts, and lines of some of them over the steps."""
    painted = [row for row in found if row.key["mode"] == PAINTED]
    summaries: dict[tuple[str, int | None], dict[str, float | None]] = {
        (PAINTED, None): studio.summary(painted, painted)
    }
    for mode in (WITH_CODES, WITHOUT_CODES):
        for steps in STEPS:
            some = [row for row in found if (row.key["mode"], row.key.get("steps")) == (mode, steps)]
            summaries[mode, steps] = studio.summary(some, painted)
    table: list[list[Cell]] = [[mode, steps, *values.values()] for (mode, steps), values in summaries.items()]
    columns = ["clips", "steps", *summaries[PAINTED, None]]
    lines = {
        name: {
            mode: [(float(steps), value) for steps in STEPS if (value := summaries[mode, steps][name]) is not None]
            for mode in (WITH_CODES, WITHOUT_CODES)
        }
        for name in _PLOTTED
    }
    plots = [Plot(name, "steps", drawn) for name, drawn in lines.items() if any(drawn.values())]
    sheets = pictures(found, lambda row: f"Prompt {row.key['prompt'] + 1}, {row.key['mode']}, {row.key['steps']} steps")
    note = f"{len(painted)} held-out prompts, clips of {studio.clip_frames} frames."
    return Section("Fig. 7: quality against steps", note, [Table("Steps", columns, table), *plots, *sheets])
