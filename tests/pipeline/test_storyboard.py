from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from arlon_cli.dioramas.captions import tokens, vocabulary
from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import MAX_FRAMES, Shot
from arlon_cli.pipeline.storyboard import Storyboard, parse_storyboard, read_storyboard


def parse(text: str) -> Storyboard:
    return parse_storyboard(text.encode(), "board.yaml", 24)


def test_a_storyboard() -> None:
    board = parse(
        """
title: Hills
defaults: {seconds: 2.5, seed: 7, steps: 8, guidance: 2}
shots:
- prompt: a hill
- {prompt: a sea, frames: 30, cut: true, seed: 3, guidance: 1.5, steps: 2}
"""
    )
    assert board == Storyboard(
        "Hills",
        (Shot("a hill", 60), Shot("a sea", 30, True, 3, 2, 1.5)),
        seed=7,
        num_steps=8,
        guidance_scale=2,
    )


def test_cut_may_be_a_default() -> None:
    shots = parse("defaults: {cut: true, frames: 9}\nshots: [{prompt: a}, {prompt: b}, {prompt: c, cut: false}]").shots
    assert [shot.cut for shot in shots] == [True, True, False]


def test_json_is_yaml() -> None:
    assert parse('{"shots": [{"prompt": "火山 🌋 \\"x\\"", "frames": 5}]}').shots == (Shot('火山 🌋 "x"', 5),)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "prompts").rglob("*.yaml")), ids=lambda f: f.name)
def test_the_storyboards_that_come_along(file: Path) -> None:
    shots = read_storyboard(file, 24).shots
    assert len(shots) > 1
    if file.name != "volcano.yaml":  # the paper's own words
        assert not {word for shot in shots for word in tokens(shot.prompt)} - set(vocabulary())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^board.yaml is empty: there is no list `shots`.$"),
        ("{", "line 1: not valid YAML"),
        ("a hill", "no mapping"),
        ("shots: []", "no list `shots`"),
        ("shots: {}", "no list `shots`"),
        ("title: x\nshots:\n- a", "line 3: shot 1 is no mapping"),
        ("shots:\n- {frames: 9}", "line 2: shot 1 has no prompt"),
        ("shots:\n- {prompt: a, frames: 9}\n- {prompt: b}", "line 3: shot 2 needs either frames or seconds"),
        ("shots: [{prompt: a, frames: 9, seconds: 2}]", "either"),
        ("shots:\n- prompt: a\n  frames: 9.5", "line 3: shot 1: frames is '9.5', which is no whole number"),
        ("shots: [{prompt: a, frames: true}]", "frames is 'true', which is no whole number"),
        ("shots: [{prompt: a, frames: [9]}]", "frames is no whole number"),
        ("shots: [{prompt: a, frames: 0}]", "frames is 0"),
        ("shots: [{prompt: a, frames: 9}, {prompt: b, frames: 7}]", "shot 2: frames is 7; it lies between 8"),
        ("shots: [{prompt: a, frames: 1000000000000}]", "frames is 1000000000000"),
        (f"shots: [{{prompt: a, frames: {'9' * 5000}}}]", "no whole number"),
        ("shots: [{prompt: a, seconds: .nan}]", "no length"),
        ("shots: [{prompt: a, seconds: .inf}]", "no length"),
        ("shots: [{prompt: a, frames: 9, cut: maybe}]", "cut is 'maybe', which is no true or false"),
        ("shots:\n- prompt: a\n  frames: 9\n  speed: 2", "line 4: shot 1: unknown field 'speed'; known are prompt,"),
        ("shots:\n- prompt: a\n  frames: 9\n  frames: 8", "line 4: shot 1: frames is given twice"),
        ("title: a\nshots: [{prompt: a, frames: 9}]\ntitle: b", "line 3: the storyboard: title is given twice"),
        ("shots:\n- prompt: a\n\tframes: 9", "line 3: not valid YAML: a tab"),
        ("shots:\n- prompt: 1984\n  frames: 9", "line 2: shot 1: prompt is '1984', which is no text; put it in quotes"),
        ("shots: [{prompt: '', frames: 9}]", "shot 1: prompt is empty"),
        ("shots: [{prompt: null, frames: 9}]", "no text"),
        (f"shots: [{{prompt: {'a' * 100_000}, frames: 9}}]", "100000 characters"),
        ('shots: [{prompt: "a\\eb", frames: 9}]', "U\\+001B"),
        ("shots: [{prompt: a\x07, frames: 9}]", "U\\+0007"),
        ("shots: [{prompt: a, frames: 9, seed: -1}]", "seed is -1; it lies between 0"),
        ("shots: [{prompt: a, frames: 9, steps: 0}]", "steps is 0"),
        ("shots: [{prompt: a, frames: 9, guidance: .nan}]", "guidance is nan"),
        ("shots: [{prompt: a, frames: 9}]\ndefaults: {seed: x}", "line 2: defaults: seed is 'x'"),
        ("shots: [{prompt: a}]\ndefaults: {frames: 9, seconds: 2}", "either"),
        ("shots: [{prompt: a}]\ndefaults: {prompt: b}", "defaults: unknown field 'prompt'"),
        ("shots: [{prompt: a, frames: 9}]\ntitle: 3", "title is '3', which is no text"),
        ("shots: [{prompt: a, frames: 9}]\nfps: 3", "unknown field 'fps'"),
        ("shots: [{? [a] : b}]", "unknown field"),
        ("shots:\n- &a {prompt: a, frames: 9}\n- *a", "line 3: the alias \\*a is not taken"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nshots: [*b, *b]", "line 2: the alias"),
        ("shots: [{<<: {prompt: a}, frames: 9}]", "unknown field '<<'"),
        ("shots: [{prompt: !!python/object/apply:os.system [ls], frames: 9}]", "no text"),
        ("shots: [{prompt: !!python/name:os.system '', frames: 9}]", "tag python/name:os.system"),
        ("shots: [{prompt: a, frames: !!int x}]", "no whole number"),
        ("!!python/object:os.path {}", "no mapping"),
        ("shots: " + "[" * 20_000, "nested too deeply"),
        ("shots: [{prompt: a, frames: 9}]\n---\nshots: []", "line 2"),
        ("shots: [{prompt: a, frames: 9}]\n" + "# \n" * 400_000, "larger than 1 MB"),
    ],
    ids=lambda value: value[:60],
)
def test_bad_storyboards_say_where(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith("board.yaml")
    assert "\n" not in str(caught.value)


def test_a_storyboard_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Could not read"):
        read_storyboard(tmp_path / "nothing.yaml", 24)
    with pytest.raises(InputError, match="Could not read"):
        read_storyboard(tmp_path, 24)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not valid YAML"):
        read_storyboard(tmp_path / "binary.yaml", 24)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORDS = st.sampled_from(["title", "defaults", "shots", "prompt", "frames", "seconds", "seed", "cut", "steps", "<<"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=6)
)
SHOTS = st.lists(st.fixed_dictionaries({"prompt": st.text(max_size=30), "frames": st.integers(1, 99) | SCALARS}))


def check(text: bytes) -> None:
    """A text is a storyboard that can be rendered, or one sentence says why not."""
    try:
        board = parse_storyboard(text, "board.yaml", 24)
    except InputError as error:
        assert str(error).startswith("board.yaml")
        assert str(error).isprintable()
    else:
        assert board.shots
        assert all(shot.prompt and 1 <= shot.num_frames <= MAX_FRAMES for shot in board.shots)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    check(text)


@given(VALUES | SHOTS.map(lambda shots: {"shots": shots}))
def test_any_yaml_is_read_or_refused(value: object) -> None:
    check(yaml.safe_dump(value, allow_unicode=True).encode(errors="replace"))
