"""`arlon cache`: the store of what runs have computed."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from arlon_cli.storage.store import Store

app = typer.Typer(help="The store of what runs have computed.", no_args_is_help=True)


@app.command()
def path() -> None:
    """Print the folder of the store."""
    print(_store().folder)


@app.command()
def show() -> None:
    """Print how much the store holds."""
    from arlon_cli.storage.store import KINDS

    store = _store()
    sizes: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for kind, _, status in store.artifacts():
        sizes[kind].append(status.st_size)
    for kind, found in sizes.items():
        print(f"{kind}: {len(found)} files, {sum(found) / 1e6:.1f} MB")
    print(f"limit: {store.limit / 1e6:.1f} MB")


@app.command()
def prune(
    size: Annotated[str | None, typer.Option("--size", help="What may stay, as 500MB.  [default: the limit]")] = None,
) -> None:
    """Remove what was not used for the longest time, until the rest fits."""
    from arlon_cli.storage.store import parse_size

    store = _store()
    print(f"{store.evict(limit=None if size is None else parse_size(size)) / 1e6:.1f} MB removed")


@app.command()
def clear() -> None:
    """Remove all codes, latents and text features; what training prepared stays, in `prepared` beside them."""
    print(f"{_store().evict(limit=0) / 1e6:.1f} MB removed")


def _store() -> "Store":
    from arlon_cli.storage.store import Store

    return Store.from_environment()
