"""`arlon models`: which weights there are, and what they know."""

from typing import Annotated

import typer

from arlon_cli.errors import InputError

app = typer.Typer(help="Which weights there are, and what they know.", no_args_is_help=True)

_EXAMPLES = 8
_EXAMPLE_FRAMES = 256


@app.command("list")
def list_models() -> None:
    """List the models of this installation."""
    from arlon_cli.config import PRESETS
    from arlon_cli.storage.weights import installed_models

    folders = {folder.name: folder for folder in installed_models()}
    for name in dict.fromkeys([*PRESETS, *folders]):
        print(f"{name}: {folders.get(name, 'no weights')}")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="The model.")] = "diorama") -> None:
    """Show what a model knows: subjects, attributes and examples of prompts."""
    if name != "diorama":
        raise InputError(f"There is no list of what {name!r} knows; `arlon models list` names the models.")
    from arlon_cli.dioramas import ATTRIBUTES, FAMILIES, caption, sample_scene

    print(f"subjects: {', '.join(FAMILIES)}")
    for attribute, values in ATTRIBUTES.items():
        print(f"{attribute}: {', '.join(values)}")
    print("examples:")
    for seed, family in enumerate(list(FAMILIES)[:_EXAMPLES]):
        print(f"  {caption(sample_scene(seed, family=family, num_frames=_EXAMPLE_FRAMES), 0, seed)}")
