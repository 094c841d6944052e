"""`arlon models`: which weights there are, what they know, and how to come by those that others published."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import printer

if TYPE_CHECKING:
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.published import PublishedPart

app = typer.Typer(help="Which weights there are, what they know; fetch published ones.", no_args_is_help=True)

_EXAMPLES = 8
_ARLON = ("latent_vqvae", "ar", "injection")


@app.command("list")
def list_models() -> None:
    """List the models of this installation, and the state of their weights."""
    from arlon_cli.presets import PRESETS
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.weights import installed_models

    folders = {folder.name: folder for folder in installed_models()}
    for name in dict.fromkeys([*PRESETS, *folders]):
        print(f"{name}: {_state(Checkpoint(folders[name])) if name in folders else 'no weights'}")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="The model.")] = "diorama") -> None:
    """Show what a model knows: subjects, attributes and examples of prompts; or the published parts of one."""
    if name == "diorama":
        _show_diorama()
        return
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.weights import find_weights

    checkpoint = Checkpoint(find_weights(name))
    config, chunk = checkpoint.config, checkpoint.config.video_vae.chunk
    facts = {
        "name": config.name,
        "weights": _state(checkpoint),
        "size": f"{config.width}x{config.height}, {config.fps} frames/s",
        "segments": f"{chunk.frames(config.segments.num_latents)} frames, of which "
        f"{chunk.frames(config.segments.overlap)} overlap",
        "steps": f"{config.sampling.num_steps}, with --no-ar {config.sampling.num_steps_without_codes}; "
        f"guidance {config.sampling.guidance_scale:g}",
    }
    for part, source in checkpoint.published.items():
        facts[part] = f"{source.source}: {_place(source)}"
    for part in _ARLON if checkpoint.published else ():
        facts[part] = f"in {checkpoint.folder}" if checkpoint.has(part) else "not trained yet"
    for key, value in facts.items():
        print(f"{key}: {value}")


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="The model, or the folder of a checkpoint around published parts.")],
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch the published parts of a model into huggingface_hub's cache, going on where a download stopped.

    HF_HOME or HF_HUB_CACHE says where to. Nothing else that arlon does downloads anything. Prints a folder per part.
    """
    import json

    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.weights import find_weights

    say = printer(quiet)
    checkpoint = Checkpoint(find_weights(name))
    if not checkpoint.published:
        say(f"{name} has all its weights in {checkpoint.folder}; there is nothing to fetch.")
    folders = _fetch(checkpoint, say)
    if as_json:
        print(json.dumps(folders, ensure_ascii=False))
        return
    for folder in folders.values():
        print(folder)


def _fetch(checkpoint: "Checkpoint", say: Callable[[str], None]) -> dict[str, str]:
    """The folder of each published part, fetched where it is not whole. Raises ArlonError."""
    from arlon_cli.storage.published import cache_folder, plan_download

    lacking = {}
    for part, source in checkpoint.published.items():
        if source.is_folder:
            checkpoint.check(part)
        if source.is_whole:
            say(f"{part}: {source.source} is here, {_gigabytes(source)} in {source.folder}")
        else:
            lacking[part] = plan_download(source)
    if lacking:
        total = sum(download.num_bytes for download in lacking.values())
        say(f"Fetching {total / 1e9:.1f} GB to {cache_folder()}; what is there of it already is not fetched again.")
    for part, download in lacking.items():
        say(f"{part}: {download.source}, {len(download.files)} files, {download.num_bytes / 1e9:.1f} GB")
        download.run()
    checkpoint.check(*checkpoint.published)
    return {part: str(source.folder) for part, source in checkpoint.published.items()}


def _state(checkpoint: "Checkpoint") -> str:
    """The state of a model's weights in a line."""
    if not checkpoint.published:
        return str(checkpoint.folder)
    if away := [part for part, source in checkpoint.published.items() if not source.is_whole]:
        return f"published weights to fetch with `arlon models pull {checkpoint.config.name}` ({', '.join(away)})"
    untrained = [part for part in _ARLON if not checkpoint.has(part)]
    return f"published weights, {'without parts of ARLON' if untrained else 'and parts of ARLON'}"


def _place(source: "PublishedPart") -> str:
    return f"{_gigabytes(source)} in {source.folder}" if source.is_whole else "not here, or not whole"


def _gigabytes(source: "PublishedPart") -> str:
    return f"{sum(file.stat().st_size for file in source.files()) / 1e9:.1f} GB"


def _show_diorama() -> None:
    from arlon_cli.dioramas import ATTRIBUTES, FAMILIES, SCENE_FRAMES, caption, sample_scene

    print(f"subjects: {', '.join(FAMILIES)}")
    for attribute, values in ATTRIBUTES.items():
        print(f"{attribute}: {', '.join(values)}")
    print("examples:")
    for seed, family in enumerate(list(FAMILIES)[:_EXAMPLES]):
        print(f"  {caption(sample_scene(seed, family=family, num_frames=SCENE_FRAMES), 0, seed)}")
