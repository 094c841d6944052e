"""The experiments of the paper by their names, and how they are run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from arlon_cli.evaluation.paper import condition, cost, long, progressive, steps, variants
from arlon_cli.evaluation.paper.studio import Studio
from arlon_cli.evaluation.report import Section
from arlon_cli.evaluation.results import Row


@dataclass(frozen=True)
class Experiment:
    """`rows` are worked out one by one, or read where they were; `section` is what they come to."""

    rows: Callable[[Studio], Iterator[Row]]
    section: Callable[[Studio, Sequence[Row]], Section]


EXPERIMENTS = {
    subject.NAME: Experiment(subject.rows, subject.section)
    for subject in (steps, long, progressive, condition, cost, variants)
}


def run(studio: Studio, names: Sequence[str]) -> Iterator[tuple[str, Section]]:
    """The sections of the experiments that are named, each when its last row is there."""
    for name in names:
        experiment = EXPERIMENTS[name]
        yield name, experiment.section(studio, list(experiment.rows(studio)))
