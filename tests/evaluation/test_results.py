"""Findings that stay, and are worked out once."""

import json
from pathlib import Path

import numpy as np
import pytest

from arlon_cli.errors import ArlonError
from arlon_cli.evaluation.results import Finding, Results


def never() -> Finding:
    raise AssertionError("worked out again")


def test_a_row_is_worked_out_once_and_read_afterwards(tmp_path: Path) -> None:
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = Finding({"a": 1.5, "b": None, "c": {"d": "e"}}, features, b"png")
    first = Results(tmp_path / "results").row({"prompt": 1}, lambda: found)
    for results in (Results(tmp_path / "results"), Results(tmp_path / "results")):
        assert results.has({"prompt": 1})
        assert not results.has({"prompt": 2})
        row = results.row({"prompt": 1}, never)
        assert row.values == first.values == found.values
        assert np.array_equal(row.features, features)
        assert row.picture == b"png"
    plain = results.row({"prompt": 2}, lambda: Finding({}))
    assert plain.picture is None


def test_a_line_that_was_cut_short_costs_that_row_alone(tmp_path: Path) -> None:
    for number in range(3):
        Results(tmp_path).row({"n": number}, lambda number=number: Finding({"value": number}))
    lines = tmp_path / "rows.jsonl"
    whole = lines.read_text()
    lines.write_text(whole[:-20])
    results = Results(tmp_path)
    assert [results.has({"n": number}) for number in range(3)] == [True, True, False]
    results.row({"n": 2}, lambda: Finding({"value": 2}))
    again = Results(tmp_path)
    assert [again.row({"n": number}, never).values["value"] for number in range(3)] == [0, 1, 2]


def test_a_row_whose_file_is_gone_is_worked_out_again(tmp_path: Path) -> None:
    row = Results(tmp_path).row({"n": 1}, lambda: Finding({}, picture=b"old"))
    row.stem.with_suffix(".png").unlink()
    assert Results(tmp_path).row({"n": 1}, lambda: Finding({}, picture=b"new")).picture == b"new"


def test_an_interrupted_row_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Finding:
        raise KeyboardInterrupt

    results = Results(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        results.row({"n": 1}, interrupted)
    assert not Results(tmp_path).has({"n": 1})


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    Results(tmp_path).row({"n": 1}, lambda: Finding({"value": "ü"}))
    (line,) = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"key": {"n": 1}, "values": {"value": "ü"}, "files": []}


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArlonError, match="Could not use"):
        Results(tmp_path / "file")
