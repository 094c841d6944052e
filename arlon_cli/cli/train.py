"""`arlon train`: make weights."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Interrupted, print_line, print_result, printer
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    from arlon_cli.config import ModelConfig

app = typer.Typer(help="Make weights.", no_args_is_help=True)

Data = Annotated[
    Path,
    typer.Argument(
        help="A folder of videos with one .csv or .jsonl of captions, whose columns (fields) are `file`, relative to "
        "it, and `caption`; or that table; or WebDataset shards: a .tar or a folder of them, samples of a video and "
        "its caption as .txt, or as `caption` in .json. Captions are for ar and dit; vae and vqvae take bare videos "
        "too.",
        show_default=False,
    ),
]
Run = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the run, with its checkpoint; goes on where one stopped.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same training.  [default: 0]")]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the training.  [default: the preset's]")]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch", help="Clips a step, over all processes together.  [default: the preset's, or one for each]"
    ),
]
MicroBatch = Annotated[
    int | None,
    typer.Option("--micro-batch", help="Clips that a process works on at once.  [default: its share of the batch]"),
]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate.  [default: the preset's]")]
FromScratch = Annotated[bool, typer.Option("--from-scratch", help="Begin with new weights, not the model's.")]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="WxH",
        help="What clips are scaled to cover and cut to; of several, each clip takes that nearest to its own.  "
        "[default: the model's]",
    ),
]
SaveMemory = Annotated[
    bool | None,
    typer.Option(
        "--checkpoint-layers/--keep-activations",
        help="Compute activations again for the gradient, or keep them.  [default: again at the paper's scale]",
    ),
]
Prepared = Annotated[
    Path | None,
    typer.Option(
        "--prepared",
        envvar="ARLON_PREPARED_DIR",
        help="Where latents and text features of the data are kept.  [default: in the cache]",
    ),
]


@app.command()
def diorama(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; goes on where one stopped.")],
    minutes: Annotated[float, typer.Option("--minutes", help="Minutes for all parts together.")] = 120.0,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Train this model on, instead of a new one.", show_default=False),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="A part to train, with --from, whose others stay; to be given again for each: text_encoder, "
            "video_vae, latent_vqvae, latent_vqvae_coarse, ar, ranker, dit, classifier.  [default: all]",
        ),
    ] = None,
    new_codes: Annotated[
        bool,
        typer.Option(
            "--new-codes",
            help="Let latent_vqvae and latent_vqvae_coarse learn other codes too, with --from; what reads them, ar, "
            "ranker and dit, then has much to learn anew.",
        ),
    ] = False,
    seed: Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train every part of the embedded model on the dioramas, within a budget of time; prints the checkpoint's path."""
    options.check_sampling(seed)
    if not (math.isfinite(minutes) and minutes > 0):
        raise InputError(f"--minutes is {minutes}; it is a positive number.")
    if part and start is None:
        raise InputError("--part trains some parts of a model, which `--from MODEL` names; a new one needs them all.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("`train diorama` is a recipe for one process; `train ar` and the others share their work.")
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.weights import find_weights
    from arlon_cli.training import diorama as recipe

    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    with stoppable() as stop:
        checkpoint = recipe.train_diorama(
            options.expanded(output),
            minutes=minutes,
            device=place,
            precision=precision,
            seed=seed or 0,
            on_event=printer(quiet),
            stop=stop,
            start=None if start is None else Checkpoint(find_weights(start)),
            parts=part or (),
            new_codes=new_codes,
        )
    print_result(checkpoint, {"minutes": minutes, "seed": seed or 0}, as_json)


@app.command()
def vae(
    data: Data,
    output: Run,
    model: options.Model = "diorama",
    steps: Steps = None,
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    lr: Rate = None,
    from_scratch: FromScratch = False,
    size: Sizes = None,
    prepared: Prepared = None,
    seed: Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the video VAE on your videos; prints the new checkpoint's path."""
    _train("video_vae", **locals())


@app.command()
def vqvae(
    data: Data,
    output: Run,
    model: options.Model = "diorama",
    coarse: Annotated[bool, typer.Option("--coarse", help="The coarser one, whose F the DiT is trained on.")] = False,
    steps: Steps = None,
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    lr: Rate = None,
    from_scratch: FromScratch = False,
    size: Sizes = None,
    prepared: Prepared = None,
    seed: Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a latent VQ-VAE on your videos, the AR model's or the coarser one; prints the new checkpoint's path."""
    given = locals()
    _train("latent_vqvae_coarse" if given.pop("coarse") else "latent_vqvae", **given)


@app.command()
def ar(
    data: Data,
    output: Run,
    model: options.Model = "diorama",
    steps: Steps = None,
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    lr: Rate = None,
    from_scratch: FromScratch = False,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            help="Learn nothing new, but to draft alone as the model does with this guidance: half the work a code.",
        ),
    ] = None,
    checkpoint_layers: SaveMemory = None,
    prepared: Prepared = None,
    seed: Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the AR Transformer on your captioned videos; prints the new checkpoint's path."""
    if guidance is not None and from_scratch:
        raise InputError("--guidance is learnt from the model's own drafts; --from-scratch has none.")
    _train("ar", **locals())


@app.command()
def dit(
    data: Data,
    output: Run,
    model: options.Model = "diorama",
    steps: Steps = None,
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    lr: Rate = None,
    from_scratch: FromScratch = False,
    size: Sizes = None,
    checkpoint_layers: SaveMemory = None,
    prepared: Prepared = None,
    seed: Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the DiT on your captioned videos; of a published one, the adapters alone. Prints the checkpoint's path."""
    _train("dit", **locals())


def _train(
    part: str,
    *,
    data: Path,
    output: Path,
    model: str,
    steps: int | None,
    batch: int | None,
    micro_batch: int | None,
    lr: float | None,
    from_scratch: bool,
    prepared: Path | None,
    seed: int | None,
    device: str,
    dtype: str,
    as_json: bool,
    quiet: bool,
    size: list[str] | None = None,
    checkpoint_layers: bool | None = None,
    guidance: float | None = None,
) -> None:
    options.check_sampling(seed)
    numbers = {"--steps": steps, "--batch": batch, "--micro-batch": micro_batch, "--lr": lr, "--guidance": guidance}
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; it is a positive number.")
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.store import Store
    from arlon_cli.storage.weights import find_weights
    from arlon_cli.training import work
    from arlon_cli.training.parts import train_part
    from arlon_cli.training.processes import Processes

    wanted = resolve_device(device)
    checkpoint = Checkpoint(find_weights(model))
    config = checkpoint.config
    processes = Processes.from_environment(wanted)
    batch = batch or processes.count * -(-work.default_batch(part, config) // processes.count)
    place = processes.device(wanted)
    settings = work.PartSettings(
        part=part,
        num_steps=steps or work.default_steps(part, config),
        batch=batch,
        micro_batch=micro_batch or max(1, batch // processes.count),
        learning_rate=lr or work.default_rate(part, config, work.is_fresh(part, checkpoint, from_scratch)),
        seed=seed or 0,
        from_scratch=from_scratch,
        sizes=_sizes(size, config),
        guidance=guidance,
    )
    folder = Store.from_environment().folder / "prepared" if prepared is None else options.expanded(prepared)
    if folder.is_file():
        raise InputError(f"{folder} is a file; --prepared is a folder.")
    with stoppable() as stop:
        trained = train_part(
            options.expanded(data),
            options.expanded(output),
            checkpoint,
            settings,
            store=Store(folder, math.inf),
            device=place,
            precision=resolve_dtype(dtype, place),
            processes=processes,
            checkpoint_layers=config.published is not None if checkpoint_layers is None else checkpoint_layers,
            on_event=printer(quiet),
            stop=stop,
        )
    if processes.rank == 0:
        print_result(trained, {"part": part, "steps": settings.num_steps, "seed": settings.seed}, as_json)


def _sizes(sizes: list[str] | None, config: "ModelConfig") -> tuple[tuple[int, int], ...]:
    """Sizes (height, width) of texts WxH, the model's where there are none. Raises InputError."""
    from arlon_cli.pipeline.sizes import parse_size

    wanted = map(parse_size, sizes) if sizes else [(config.width, config.height)]
    return tuple(dict.fromkeys((height, width) for width, height in wanted))


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Lets Ctrl-C, and SIGTERM as it, stop a training after its step; gives what says whether that was asked for.

    Raises the console's Interrupted for a training that stopped.
    """
    from arlon_cli.training import loop

    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print_line("Stopping after this step; once more stops at once.")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    except (loop.Interrupted, KeyboardInterrupt) as error:
        raise Interrupted("Interrupted. The same command goes on where it stopped.") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
