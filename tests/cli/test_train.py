import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from arlon_cli.cli.app import run
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.training import diorama as recipe
from arlon_cli.training.start import folder_of_run


def test_prints_the_checkpoint(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(
        folder: Path,
        *,
        minutes: float,
        device: torch.device,
        precision: torch.dtype,
        seed: int,
        on_event: Callable[[str], None],
        stop: object,
        start: Checkpoint | None,
        parts: Sequence[str],
        new_codes: bool,
    ) -> Path:
        on_event(f"{minutes:g} minutes on {device} in {precision} from {seed}")
        on_event(f"{start and start.folder.name}: {', '.join(parts)}{' with new codes' if new_codes else ''}")
        return folder / "checkpoint"

    monkeypatch.setattr(recipe, "train_diorama", train)
    assert (
        run(
            [
                "train",
                "diorama",
                "--minutes",
                "5",
                "--device",
                "cpu",
                "--dtype",
                "float32",
                "--seed",
                "2",
                "-o",
                str(tmp_path),
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'checkpoint'}\n"
    assert err == "5 minutes on cpu in torch.float32 from 2\nNone: \n"
    command = ["train", "diorama", "--from", str(tiny_checkpoint), "--part", "ar", "--part", "dit", "-o", str(tmp_path)]
    assert run([*command, "--new-codes", "--device", "cpu", "--dtype", "bfloat16"]) == 0
    told = capsys.readouterr().err
    assert told == f"120 minutes on cpu in torch.bfloat16 from 0\n{tiny_checkpoint.name}: ar, dit with new codes\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_after_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def train(folder: Path, *, stop: Callable[[], bool], **rest: object) -> Path:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        raise recipe.Interrupted

    monkeypatch.setattr(recipe, "train_diorama", train)
    before = signal.getsignal(number)
    assert run(["train", "diorama", "-o", str(tmp_path)]) == 130
    assert "same command goes on" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def trained(part: str, data: Path, model: Path, output: Path, *more: str) -> int:
    few = ["--steps", "2", "--batch", "2", "--device", "cpu", "--dtype", "float32"]
    return run(["train", part, str(data), "--model", str(model), "-o", str(output), *few, *more])


@pytest.mark.slow
def test_parts_trained_in_turn_make_a_model_that_renders(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint
    for number, (part, more) in enumerate(
        [("vae", []), ("vqvae", []), ("vqvae", ["--coarse", "--from-scratch"]), ("ar", []), ("dit", ["-q"])]
    ):
        output = here / f"{number}-{part}"
        assert trained(part, videos, model, output, *more) == 0
        out, err = capsys.readouterr()
        assert out == f"{output / 'checkpoint'}\n"
        assert ("bad.mp4 is no video" in err) == (part != "dit")
        model = output / "checkpoint"
    assert run(["generate", "a red hill", "--model", str(model), "--frames", "24", "-o", "clip.mp4"]) == 0
    assert run(["encode", "clip.mp4", "--model", str(model)]) == 0
    assert run(["extend", "clip.mp4", "--model", str(model), "--frames", "8", "-o", "longer.mp4"]) == 0
    assert (here / "longer.mp4").exists()


def test_json_says_where_the_checkpoint_is_and_a_second_call_changes_nothing(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert trained("ar", videos, tiny_checkpoint, here / "run", "--json", "-q") == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == {"path": str(here / "run" / "checkpoint"), "part": "ar", "steps": 2, "seed": 0}
        assert err == ""
    steps = [json.loads(line)["step"] for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]


def test_adapters_around_published_parts_are_trained_on_and_render(
    videos: Path, tiny_arlon: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained("dit", videos, tiny_arlon, here / "run", "--from-scratch", "-q") == 0
    assert trained("dit", videos, here / "run" / "checkpoint", here / "more", "--json", "-q") == 0
    model = json.loads(capsys.readouterr().out.splitlines()[-1])["path"]
    assert run(["generate", "a red hill", "--model", model, "--frames", "17", "--device", "cpu", "-o", "clip.mp4"]) == 0
    assert (here / "clip.mp4").exists()


def test_with_nothing_pulled_training_points_at_pull(
    videos: Path, here: Path, offline_hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "vqvae", str(videos), "--model", "opensora-v1.2", "-o", str(here / "run")]) == 2
    assert "no whole copy of hpcai-tech/OpenSora-VAE-v1.2. `arlon models pull opensora-v1.2`" in capsys.readouterr().err
    assert run(["train", "dit", str(videos), "--model", "opensora-v1.2", "-o", str(here / "run")]) == 2
    assert "has no latent_vqvae, from which dit learns; train that first." in capsys.readouterr().err
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "--steps is 0; it is a positive number"),
        (["--lr", "nan"], "--lr is nan; it is a positive number"),
        (["--batch", "-2"], "--batch is -2; it is a positive number"),
        (["--size", "32"], "The size '32' is not of the form WIDTHxHEIGHT"),
        (["--size", "40x40"], "40x40 is no multiple of 32"),
        (["--model", "nowhere"], "no weights for 'nowhere'"),
        (["--seed", "-1"], "--seed is -1"),
        (["--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_wrong_use_is_one_line_and_2(
    more: list[str],
    message: str,
    videos: Path,
    tiny_checkpoint: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trained("dit", videos, tiny_checkpoint, here / "run", *more) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--part", "ar"], "--part trains some parts of a model, which `--from MODEL` names"),
        (["--from", "diorama", "--part", "eyes"], "There is no part eyes to train; there are text_encoder,"),
        (["--from", "opensora-v1.2"], "is made of published weights"),
        (["--from", "nowhere"], "no weights for 'nowhere'"),
        (["--minutes", "0"], "--minutes is 0.0; it is a positive number"),
        (["--new-codes"], "name a model, and that part"),
        (["--from", "diorama", "--part", "ar", "--new-codes"], "name a model, and that part"),
        (
            ["--from", "diorama", "--part", "latent_vqvae", "--part", "ar", "--new-codes"],
            "Codes that become others are new to dit, ranker; train them with it.",
        ),
    ],
)
def test_no_recipe_of_the_dioramas_is_one_line_and_2(
    more: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "diorama", "-o", "run", *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(here.iterdir())


def test_what_no_run_of_its_own_left_stays(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run" / "checkpoint").mkdir(parents=True)
    (here / "run" / "checkpoint" / "config.json").write_text("mine")
    (here / "file").touch()
    assert trained("ar", videos, tiny_checkpoint, here / "run") == 2
    assert "run holds checkpoint, but not of a run; name another folder" in capsys.readouterr().err
    assert [path.name for path in (here / "run").rglob("*")] == ["checkpoint", "config.json"]
    assert trained("ar", videos, tiny_checkpoint, here / "file") == 2
    assert "there is a file of that name" in capsys.readouterr().err


def test_a_run_is_no_checkpoint_and_not_where_its_data_is(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_checkpoint, here / "model")
    before = {path: path.read_bytes() for path in (here / "model").rglob("*") if path.is_file()}
    assert trained("ar", videos, tiny_checkpoint, here / "model") == 2
    assert "model is a checkpoint; name another folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (here / "model").rglob("*") if path.is_file()} == before
    left = sorted(videos.iterdir())
    for data in (videos, next(videos.glob("*.csv"))):
        assert trained("ar", data, tiny_checkpoint, videos) == 2
        assert "is where the data is; name another folder" in capsys.readouterr().err
    assert sorted(videos.iterdir()) == left


def test_a_run_that_came_to_nothing_leaves_its_folder_free(
    videos: Path, tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        (here / "run" / "metrics.jsonl").touch()
        raise RuntimeError("nothing")

    with monkeypatch.context() as patch:
        patch.setattr("arlon_cli.training.parts.train", fail)
        assert trained("ar", videos, tiny_checkpoint, here / "run", "--lr", "7") == 1
    assert {path.name for path in (here / "run").iterdir()} == {"run.json", "metrics.jsonl"}
    assert trained("ar", videos, tiny_checkpoint, here / "run") == 0
    capsys.readouterr()
    assert trained("ar", videos, tiny_checkpoint, here / "run", "--lr", "7") == 2
    assert "began with another learning_rate" in capsys.readouterr().err


def test_two_runs_do_not_go_on_in_one_folder(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder_of_run(here / "run"):
        assert trained("ar", videos, tiny_checkpoint, here / "run") == 2
        assert "Another run is at work in" in capsys.readouterr().err
    assert not (here / "run").exists()
    assert trained("ar", videos, tiny_checkpoint, here / "run") == 0
    assert "run.json" in {path.name for path in (here / "run").iterdir()}


def test_who_has_no_caption_is_counted(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [path.name for path in sorted(videos.glob("*.mp4")) if path.name != "bad.mp4"]
    rows = [f"{videos / name},{'a hill' if number else ''}" for number, name in enumerate(names)]
    (here / "some.csv").write_text("\n".join(["file,caption", *rows]))
    assert trained("ar", here / "some.csv", tiny_checkpoint, here / "run") == 0
    assert f"1 of {len(names)} pieces have no caption" in capsys.readouterr().err


def test_guidance_is_learnt_from_an_ar_model_that_is_there(
    videos: Path, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--from-scratch"], ["--guidance", "0"]):
        assert trained("ar", videos, tiny_checkpoint, here / "run", "--guidance", "2", *more) == 2
        assert "--guidance is" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_data_that_is_none_is_one_line_and_2(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained("ar", here / "nothing", tiny_checkpoint, here / "run") == 2
    assert "There is no data at" in capsys.readouterr().err
    assert not list(here.iterdir())
