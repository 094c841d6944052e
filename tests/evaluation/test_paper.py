"""The paper's experiments, on a stand-in for the model whose clips are known."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from arlon_cli.config import ModelConfig, SemanticInjectionConfig
from arlon_cli.evaluation.appearance import appearance, largest_jump
from arlon_cli.evaluation.paper import condition, cost, long, progressive, steps, variants
from arlon_cli.evaluation.paper.studio import PAINTED, RESCHEDULED, WITH_CODES, WITHOUT_CODES, Studio, Take
from arlon_cli.evaluation.paper.suite import EXPERIMENTS
from arlon_cli.evaluation.prompts import held_out
from arlon_cli.evaluation.report import Picture, Plot
from arlon_cli.evaluation.results import Results, Row
from arlon_cli.evaluation.videos import Seams
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.presets import DIORAMA

CPU = torch.device("cpu")
LENGTH = 24


class Stage:
    """Renders noise that tells a take's seed and mode, and remembers what it was asked for."""

    def __init__(self, config: ModelConfig, classifier: nn.Module, checkpoint: Path, folder: Path) -> None:
        assert isinstance(classifier, AttributeClassifier)
        self.takes: list[Take] = []
        self.trained: list[tuple[SemanticInjectionConfig, str]] = []
        self.events: list[str] = []
        self.studio = Studio(
            checkpoint=checkpoint,
            config=config,
            digest="abc",
            device=CPU,
            dtype=torch.float32,
            classifier=classifier,
            render=self.render,
            seams=lambda take: Seams((12,), ()),
            train=self.train,
            training_steps=3,
            results=Results(folder),
            items=held_out(2),
            num_frames=LENGTH,
            seed=7,
            on_event=self.events.append,
        )

    def train(self, injection: SemanticInjectionConfig, codes: str) -> Path:
        self.trained.append((injection, codes))
        return self.studio.checkpoint

    def render(self, take: Take) -> Iterator[np.ndarray]:
        self.takes.append(take)
        draw = np.random.default_rng([take.seed, len(take.mode), take.num_steps])
        for num_frames in (10, take.num_frames - 10):
            yield draw.integers(0, 256, (num_frames, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def stage(tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module], tiny_checkpoint: Path, tmp_path: Path) -> Stage:
    return Stage(tiny_config, tiny_modules["classifier"], tiny_checkpoint, tmp_path / "results")


def test_steps(stage: Stage) -> None:
    found = list(steps.rows(stage.studio))
    rendered = {(take.seed, take.num_steps, take.mode) for take in stage.takes}
    assert rendered == {(seed, n, mode) for seed in (7, 8) for n in steps.STEPS for mode in (WITH_CODES, WITHOUT_CODES)}
    section = steps.section(stage.studio, found)
    (table,) = section.tables
    assert len(table.rows) == 1 + 2 * len(steps.STEPS)
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert (first["clips"], first["steps"]) == (PAINTED, None)
    assert first["Fréchet distance to real frames"] == pytest.approx(0, abs=1e-3)
    assert all(row[table.columns.index("Fréchet distance to real frames")] > 0 for row in table.rows[1:])
    plots = [part for part in section.parts if isinstance(part, Plot)]
    assert all([x for x, _ in points] == list(steps.STEPS) for plot in plots for points in plot.lines.values())
    assert sum(isinstance(part, Picture) for part in section.parts) == 2 * 2 * 4


def test_long_videos_run_again_only_where_they_are_missing(stage: Stage) -> None:
    rows = long.rows(stage.studio)
    begun = [next(rows) for _ in range(3)]
    assert [row.key["mode"] for row in begun] == [PAINTED, WITH_CODES, WITHOUT_CODES]
    stage.takes.clear()
    found = list(long.rows(stage.studio))
    assert [(take.seed, take.mode) for take in stage.takes] == [
        (7, RESCHEDULED),
        (8, WITH_CODES),
        (8, WITHOUT_CODES),
        (8, RESCHEDULED),
    ]
    assert {take.num_frames for take in stage.takes} == {LENGTH}
    stage.takes.clear()
    assert [row.values for row in long.rows(stage.studio)] == [row.values for row in found]
    assert stage.takes == []
    (table,) = long.section(stage.studio, found).tables
    assert [row[:2] for row in table.rows] == [[PAINTED, None], [WITH_CODES, 2], [WITHOUT_CODES, 3], [RESCHEDULED, 3]]
    assert len(stage.events) == 8


def test_pairs_of_prompts_are_the_papers_and_held_out_changes() -> None:
    pairs = progressive.changes(10)
    assert pairs[0] == progressive.VOLCANO
    assert len({pair.told[0]["family"] for pair in pairs}) == 10
    for pair in pairs:
        assert pair.changed
        assert pair.changed.items() <= pair.told[1].items()
        assert pair.told[0]["family"] == pair.told[1]["family"]
        assert all(pair.told[0].get(name) != value for name, value in pair.changed.items())


def test_progressive_prompts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progressive, "_NUM_PAIRS", 2)
    found = list(progressive.rows(stage.studio))
    assert [take.mode for take in stage.takes] == [WITH_CODES, WITHOUT_CODES] * 2
    assert [num_frames for _, num_frames in stage.takes[0].shots] == [12, 12]
    assert tuple(prompt for prompt, _ in stage.takes[0].shots) == progressive.VOLCANO.prompts
    section = progressive.section(stage.studio, found)
    assert len(section.tables[0].rows) == 6
    assert sum(isinstance(part, Picture) for part in section.parts) == 4


def test_pairs_beyond_those_that_are_shown_count_in_the_mean(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progressive, "_NUM_PAIRS", 1)
    found = list(progressive.rows(stage.studio))  # there are two prompts
    assert [take.mode for take in stage.takes] == [WITH_CODES, WITHOUT_CODES, WITH_CODES]
    section = progressive.section(stage.studio, found)
    (table,) = section.tables
    assert [row[:2] for row in table.rows] == [
        ["1", WITH_CODES],
        ["1", WITHOUT_CODES],
        ["mean of 2", WITH_CODES],
        ["mean of 1", WITHOUT_CODES],
    ]
    jumps = [row.values["largest jump"] for row in found if row.key["mode"] == WITH_CODES]
    assert table.rows[2][table.columns.index("largest jump")] == pytest.approx(sum(jumps) / 2)
    assert sum(isinstance(part, Picture) for part in section.parts) == 2


def test_what_was_told_is_right_where_it_was_read() -> None:
    read = {"family": "volcano", "state": "erupting", "weather": "clear"}
    assert progressive._right(read, {"family": "volcano", "weather": "storm"}) == 0.5
    assert progressive._right(read, progressive.VOLCANO.changed) == 0.5
    assert progressive._right(read, {"colour": "red"}) is None


def test_codes_of_a_clip(stage: Stage) -> None:
    found = list(condition.rows(stage.studio))
    item, other = condition._pairs(1)[0]
    assert item.scene.family == other.scene.family
    assert item != other
    asked = [(take.shots[0][0], take.like) for take in stage.takes[:3]]
    assert asked == [(item.prompt, item), (other.prompt, item), (other.prompt, None)]
    (table,) = condition.section(stage.studio, found).tables
    assert table.rows[0][1] == 1.0
    assert all(abs(row[1]) < 0.5 for row in table.rows[1:])


def test_costs_add_up(stage: Stage) -> None:
    dit = cost.stage_cost(stage.studio.checkpoint, cost.DIT, "a red hill", CPU, torch.float32)
    plain = cost.stage_cost(stage.studio.checkpoint, cost.BASELINE, "a red hill", CPU, torch.float32)
    assert dit["parameters"] > plain["parameters"] > 0
    assert dit["gflops"] > plain["gflops"] > 0
    rows = [
        Row({"stage": name}, {"parameters": 1e6, "gflops": 2.0, "seconds": 3.0, "memory_gb": 1.0}, (), Path())
        for name in cost.STAGES
    ]
    (table,) = cost.section(stage.studio, rows).tables
    with_codes, without_codes = table.rows[-2:]
    assert [with_codes[0], without_codes[0]] == ["a segment with codes, DiT × 2", "a segment without codes, DiT × 3"]
    assert with_codes[1:] == [4.0, 2.0 * (3 + 2), 3.0 * (3 + 2), None]  # the tiny model takes 2 steps
    assert without_codes[1:] == [2.0, 2.0 * (3 + 1), 3.0 * (3 + 1), None]  # and 3 without codes


def test_variants_are_the_papers() -> None:
    own = DIORAMA.injection
    found = [(variant.codes, variant.injection(DIORAMA)) for variant in variants.VARIANTS]
    half, fine, coarse = (0, 1, 2), "latent_vqvae", "latent_vqvae_coarse"
    assert [(codes, i.fusion, i.layers, i.condition_noise) for codes, i in found] == [
        (fine, "adaptive_norm", half, "none"),
        (coarse, "controlnet", half, "none"),
        (coarse, "mlp_adapter", half, "none"),
        (coarse, "adaptive_norm", (0,), "none"),
        (coarse, "adaptive_norm", (0, 1), "none"),
        (coarse, "adaptive_norm", half, "none"),
        (coarse, "adaptive_norm", half, "gaussian"),
        (coarse, "adaptive_norm", half, "uncertainty"),
        (coarse, "adaptive_norm", (3, 4, 5), "none"),
    ]
    for _, injection in found:
        assert not injection.add_to_input  # else F would enter before the first layer, whichever the layers
        same = {"condition_channels", "noise_probability", "linear_estimate"}
        assert all(getattr(injection, name) == getattr(own, name) for name in same)
    sizes = [variant.places(28) for variant in variants.VARIANTS]
    assert [len(places) for places in sizes] == [14, 14, 14, 3, 8, 14, 14, 14, 14]
    assert sizes[-1] == tuple(range(14, 28))


def test_variants_are_trained_where_a_row_is_missing(stage: Stage) -> None:
    studio = stage.studio
    begun = variants.rows(studio)
    for _ in range(2 + 3 + 2):  # painted; without codes; the first variant's losses, and the first of its clips
        next(begun)
    injections = [(variant.injection(studio.config), variant.codes) for variant in variants.VARIANTS]
    assert stage.trained == injections[:1]
    found = list(variants.rows(studio))
    assert stage.trained == [injections[0], *injections]  # the first once more, for the clip that it still lacked
    assert [take.mode for take in stage.takes] == [WITHOUT_CODES] * 2 + [WITH_CODES] * 18
    assert {take.model for take in stage.takes} == {studio.checkpoint}
    stage.trained.clear()
    assert [row.values for row in variants.rows(studio)] == [row.values for row in found]
    assert stage.trained == []
    section = variants.section(studio, found)
    (table,) = section.tables
    assert [row[:4] for row in table.rows[:4]] == [
        [PAINTED, None, None, None],
        [WITHOUT_CODES, None, None, None],
        ["2×2×2", "adaptive norm", "first 1 of 1", "none"],
        ["2×4×4", "ControlNet", "first 1 of 1", "none"],
    ]
    assert len(table.rows) == 2 + 9
    assert all(len(row) == len(table.columns) for row in table.rows)
    own, drafted = (table.columns.index(name) for name in ("loss, the clip's codes", "loss, drafted codes"))
    assert table.rows[1][own] == table.rows[1][drafted] != table.rows[2][own] != table.rows[2][drafted]
    assert "3 steps" in section.note
    assert sum(isinstance(part, Picture) for part in section.parts) == 2 * 10
    longer = dataclasses.replace(studio, training_steps=4)
    assert len(stage.takes) == 20
    list(variants.rows(longer))
    assert stage.trained == injections  # other trainings, but the same painted clips and baseline
    assert len(stage.takes) == 20 + 18


@pytest.mark.slow
def test_a_stage_is_measured_in_a_process_of_its_own(stage: Stage) -> None:
    rows = cost.rows(stage.studio)
    row = next(rows)
    assert row.key["stage"] == cost.AR
    assert row.values["memory_gb"] is None or row.values["memory_gb"] < 2
    assert row.values["parameters"] > 0


def test_the_largest_jump_of_a_cut() -> None:
    ramp = np.concatenate([np.full((1, 8, 8, 3), 10 + 2 * i, np.uint8) for i in range(9)])
    assert largest_jump(appearance(ramp)) == pytest.approx(1.0)
    ramp[5:] += 8
    assert largest_jump(appearance(ramp)) == pytest.approx(5.0)


def test_experiments_have_names() -> None:
    assert list(EXPERIMENTS) == ["figure-7", "table-1", "figure-9", "figure-15", "table-4", "table-3"]
