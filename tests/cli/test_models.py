import pytest

from arlon_cli.cli.app import run
from arlon_cli.dioramas import ATTRIBUTES, FAMILIES


def test_show_lists_what_diorama_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*FAMILIES, *ATTRIBUTES))
    assert out.index("examples:") < len(out) - 100


def test_list_names_diorama(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    assert capsys.readouterr().out.startswith("diorama: ")
