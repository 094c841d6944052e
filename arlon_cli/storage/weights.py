"""Where the weights of presets are."""

from pathlib import Path

import arlon_cli
from arlon_cli.config import ModelConfig
from arlon_cli.errors import CheckpointError


def weights_folders() -> list[Path]:
    """Folders that hold the weights of presets: in an installed package, and beside the package in a repository."""
    package = Path(arlon_cli.__file__).parent
    return [package / "weights", package.parent / "weights"]


def find_weights(model: str) -> Path:
    """The checkpoint folder of a preset's name or a path. Raises CheckpointError where there is none."""
    if not model:
        raise CheckpointError("The model's name is empty.")
    for folder in weights_folders():
        if (folder / model / "config.json").is_file():
            return folder / model
    path = Path(model).expanduser()
    if (path / "config.json").is_file():
        return path
    if path.exists():
        raise CheckpointError(f"{model} is no checkpoint: it has no config.json.")
    raise CheckpointError(
        f"There are no weights for {model!r}: neither a model of that name in {weights_folders()[-1]} nor a folder; "
        "name a checkpoint folder with --model, or make one with `arlon train diorama`."
    )


def installed_models() -> list[Path]:
    """The checkpoint folders that come with this installation."""
    found = {file.parent.name: file.parent for folder in weights_folders() for file in folder.glob("*/config.json")}
    return [found[name] for name in sorted(found)]


def read_config(folder: Path) -> ModelConfig:
    """What a checkpoint folder says about its model, without its weights. Raises CheckpointError."""
    file = folder / "config.json"
    try:
        return ModelConfig.from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"Could not read {file}: {error}.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
