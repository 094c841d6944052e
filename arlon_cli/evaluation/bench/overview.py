"""What a benchmark found, as tables and a bar chart."""

from collections.abc import Sequence
from typing import Any

from arlon_cli.evaluation.bench.ceilings import Ceilings
from arlon_cli.evaluation.bench.comparisons import Comparison
from arlon_cli.evaluation.bench.stages import Stage
from arlon_cli.evaluation.bench.timing import Spread
from arlon_cli.evaluation.memory import StageMemory
from arlon_cli.evaluation.report import Bars, Cell, Section, Table, as_text

_NOTE = (
    "Speeds are medians of {repeats}, with the least and the most of them, after a call that warms up and does not "
    "count. Ceilings are the best that this machine did in this run; a stage's share is the time that it could not "
    "fall below beside the one it took. What is read are weights, of the writer frames: a lower bound."
)


_PARTS = {
    "text": "text encoder",
    "draft": "AR Transformer",
    "condition": "latent VQ-VAE",
    "denoise": "DiT",
    "decode": "video VAE",
}


def stage_section(where: str, stages: Sequence[Stage], ceilings: Ceilings, repeats: int) -> Section:
    """The stages beside the ceilings; `where` names the model and the machine."""
    rows: list[list[Cell]] = []
    shares = {}
    for stage in stages:
        ceiling, shares[stage.name] = stage.beside(ceilings)
        speed = f"{as_text(stage.rate.median)} {stage.unit}"
        call = f"{stage.count} {stage.unit.removesuffix('/s').removeprefix('ms/')}"
        tflops = stage.gflops / stage.seconds.median / 1e3
        bounded: list[Cell] = [ceiling, f"{shares[stage.name]:.1%}", stage.peak_memory_gb]
        rows.append([stage.name, speed, _range(stage.rate), call, stage.gflops, stage.read_gb, tflops, *bounded])
    columns = ["stage", "speed", "least to most", "a call", "GFLOPs a call", "GB read a call", "TFLOP/s"]
    columns += ["bounded by", "of that", "peak GB"]
    most: list[list[Cell]] = [
        ["matrix product, TFLOP/s", ceilings.product_tflops],
        ["convolution, TFLOP/s", ceilings.convolution_tflops],
        ["memory, GB/s", ceilings.memory_gb_per_second],
    ]
    tables = [Table(where, columns, rows), Table("What the machine can do", ["ceiling", "value"], most)]
    return Section("Stages", _NOTE.format(repeats=repeats), [*tables, Bars("Share of what bounds it", shares)])


def memory_section(stages: Sequence[Stage], predicted: Sequence[StageMemory]) -> Section:
    """The peak of each part beside what was predicted."""
    measured = {stage.name: stage.peak_memory_gb for stage in stages}
    rows: list[list[Cell]] = [
        [_PARTS[found.name], found.offloaded_peak_gb, measured.get(_PARTS[found.name])] for found in predicted
    ]
    note = "Predicted as with --offload, where no two large parts are on the device; measured of each part alone."
    return Section("Memory", note, [Table("Peak memory, GB", ["part", "predicted", "measured"], rows)])


def whole_section(numbers: dict[str, Any], note: str) -> Section:
    """A whole video: single numbers, and those of several repeats."""
    rows: list[list[Cell]] = []
    for name, value in numbers.items():
        values = list(value.values()) if isinstance(value, dict) else [value, None, None]
        rows.append([name.replace("_", " "), *values])
    table = Table("A whole video", ["number", "median", "least", "most"], rows)
    return Section("A whole video", note, [table])


def comparison_section(comparisons: Sequence[Comparison]) -> Section:
    """Parts beside what else would do their work."""
    rows: list[list[Cell]] = [
        [
            found.name,
            f"{as_text(found.seconds.median)} s ({_range(found.seconds)})",
            found.other,
            f"{as_text(found.other_seconds.median)} s ({_range(found.other_seconds)})",
            found.times_as_fast,
        ]
        for found in comparisons
    ]
    columns = ["what", "takes", "beside", "takes", "times as fast"]
    return Section("Comparisons", "Medians, least to most.", [Table("Comparisons", columns, rows)])


def _range(spread: Spread) -> str:
    return f"{as_text(spread.least)} to {as_text(spread.most)}"
