"""The user's config.toml: options that need not be typed each time."""

import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs

from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import RANGES

FILE = "config.toml"
_NUMBER = (int, float)
_OPTIONS: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "text"),
    "device": ((str,), "text"),
    "dtype": ((str,), "text"),
    "steps": ((int,), "a whole number"),
    "guidance": (_NUMBER, "a number"),
    "output": ((str,), "text, a folder"),
}
NAMES = f"{', '.join(list(_OPTIONS)[:-1])} and {list(_OPTIONS)[-1]}"
"""The options that may stand there"""


def settings_path() -> Path:
    """Where config.toml is, or would be: in `ARLON_CONFIG_DIR`, or the platform's folder."""
    folder = os.environ.get("ARLON_CONFIG_DIR") or platformdirs.user_config_dir("arlon", appauthor=False)
    return Path(folder).expanduser() / FILE


def defaults_of(command: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values by click command, as a default map: for every option that an `ARLON_*` variable may set, too."""
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        return {name: defaults_of(subcommand, values) for name, subcommand in subcommands.items()}
    names = [option.name for option in command.params if option.envvar == f"ARLON_{str(option.name).upper()}"]
    return {name: values[name] for name in names if name in values}


def read_settings(path: Path) -> dict[str, Any]:
    """The options in a file; none where there is no file. Raises InputError that names file and key."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"Could not read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {' '.join(str(error).split())}.") from error
    for name, value in values.items():
        if name not in _OPTIONS:
            raise InputError(f"{path}: unknown key {name!r}; known are {', '.join(_OPTIONS)}.")
        types, kind = _OPTIONS[name]
        if type(value) not in types:
            raise InputError(f"{path}: {name} is {value!r}, which is not {kind}.")
        low, high = RANGES.get(name, (value, value))
        if not low <= value <= high:
            raise InputError(f"{path}: {name} is {value}; it lies between {low} and {high}.")
    return values
