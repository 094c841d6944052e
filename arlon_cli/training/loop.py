"""The one training loop: warm-up and cosine, gradient clipping, EMA, JSON-lines metrics, exact resume.

Every step is one or several micro-batches, each with random numbers of its own from (seed, its number) alone. So a run
that was stopped and resumed gives the weights of an uninterrupted one, bit for bit on the same CPU (GPUs add up some
gradients in no fixed order), and several processes that share the micro-batches learn what one learns that works
through all of them.
"""

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from arlon_cli.errors import ArlonError, CheckpointError
from arlon_cli.storage.partial import partial_file
from arlon_cli.training.optimizer import Optimizer
from arlon_cli.training.processes import ALONE, Processes

_MOST_LOST = 50  # steps without a loss that is a number, one behind the other

Loss = Callable[[Any], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class LoopSettings:
    """Optimizer and schedule; learning rates fall along a cosine to `final_rate` of their peaks.

    `matrix_rate` is that of Muon for matrices, which AdamW steps too where it is None.
    """

    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float
    warmup_steps: int
    final_rate: float
    clip_norm: float
    ema_decay: float
    save_seconds: float
    seed: int
    matrix_rate: float | None = None

    @classmethod
    def usual(
        cls,
        learning_rate: float,
        weight_decay: float,
        num_steps: int,
        seed: int,
        betas: tuple[float, float] = (0.9, 0.99),
        matrix_rate: float | None = None,
    ) -> Self:
        """What all parts are trained with."""
        return cls(
            learning_rate=learning_rate,
            betas=betas,
            weight_decay=weight_decay,
            warmup_steps=min(200, num_steps // 10),
            final_rate=0.02,
            clip_norm=1.0,
            ema_decay=max(0.9, 1 - 10 / num_steps),  # about the last tenth of the run
            save_seconds=120,
            seed=seed,
            matrix_rate=matrix_rate,
        )


class Interrupted(Exception):
    """Training was asked to stop, and can go on from its folder."""


@dataclass(frozen=True)
class Trained:
    """What `train` hands back: the averaged weights by name, and the last step's metrics."""

    weights: dict[str, Tensor]
    metrics: dict[str, float]


def train(
    module: nn.Module,
    batch_at: Callable[[int], Any],
    loss: Loss,
    settings: LoopSettings,
    *,
    num_steps: int,
    folder: Path,
    precision: torch.dtype,
    after_step: Callable[[int], None] | None = None,
    extra: Callable[[], Mapping[str, Tensor]] | None = None,
    load_extra: Callable[[dict[str, Tensor]], None] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    processes: Processes = ALONE,
    micro_batches: int = 1,
) -> Trained | None:
    """Train `module` in place up to `num_steps`, going on from `folder` if a state is there.

    `batch_at(index)` gives a batch and `loss(batch)` its loss and metrics, both free to use torch's global random
    numbers; step n takes the micro-batches from n · `micro_batches` on, which `processes` share. `extra` and
    `load_extra` carry state that is no parameter (a codebook's averages). `precision` is the autocast dtype. Frozen
    parameters are not kept in `folder`. When `stop()` turns true, the state is saved and None is returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "state.safetensors"
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    for tensor in _kept(module).values():
        processes.agree(tensor)
    optimizer = Optimizer(
        parameters.values(),
        learning_rate=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        matrix_rate=settings.matrix_rate,
    )
    average = {name: p.detach().clone() for name, p in parameters.items()}
    step, lost, metrics = 0, 0, {}  # `lost` are the latest steps that came to nothing
    if state_file.exists():
        step = _load(state_file, module, optimizer, parameters, average, load_extra)
    if len(set(processes.gather_objects([step]))) > 1:
        raise CheckpointError(f"Not all processes found the same state in {folder}; they need one disk that all see.")
    device = next(iter(parameters.values())).device
    saved = time.monotonic()
    own = processes.share(micro_batches)
    main = processes.rank == 0
    module.train()
    metrics_file = folder / "metrics.jsonl" if main else Path(os.devnull)
    if main and metrics_file.exists():
        _drop_lost_steps(metrics_file, step)
    with metrics_file.open("a") as log:
        while step < num_steps:
            share = _rate_share(step, num_steps, settings)
            found: list[dict[str, Tensor]] = []
            for index in (step * micro_batches + number for number in own):
                _seed(settings, index)
                batch = batch_at(index)  # outside of autocast, which does not know half precision on CPUs
                with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
                    value, tensors = loss(batch)
                (value / len(own)).backward()
                found.append({"loss": value.detach()} | tensors)
            processes.average_gradients(list(parameters.values()))
            norm = nn.utils.clip_grad_norm_(parameters.values(), settings.clip_norm)
            if torch.isfinite(norm):  # a rare overflow costs one step, not the run
                optimizer.step(share)
                lost = 0
            else:
                lost += 1
            optimizer.zero_grad()
            if after_step is not None:
                if micro_batches > 1:  # all processes alike, whichever micro-batch was their last
                    _seed(settings, step * micro_batches)
                after_step(step)
            step += 1
            decay = min(settings.ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
            stopping = processes.any(stop is not None and stop())
            if step % 20 == 0 or step in (1, num_steps) or stopping:
                metrics = _means(found, processes)
                metrics = {"loss": metrics.pop("loss"), "grad_norm": norm.item()} | metrics
                print(
                    json.dumps({"step": step, "of": num_steps, "rate": share * settings.learning_rate} | metrics),
                    file=log,
                    flush=True,
                )
                if on_step is not None:
                    on_step(step, metrics)
            if lost == _MOST_LOST or (lost > 1 and step == num_steps):
                raise ArlonError(
                    f"The training came apart by step {step}: its loss is no number. "
                    "Begin anew in another folder, with a lower learning rate."
                )
            due = stopping or step == num_steps or time.monotonic() - saved > settings.save_seconds
            if main and due and not lost:  # from a state that is lost nothing could go on
                _save(state_file, step, module, optimizer, parameters, average, extra)
                saved = time.monotonic()
            if stopping and step < num_steps:
                processes.wait()
                return None
    processes.wait()
    buffers = {name: b.detach() for name, b in module.state_dict().items() if name not in average}
    return Trained(average | buffers, metrics)


def _seed(settings: LoopSettings, index: int) -> None:
    """Begin torch's random numbers of a micro-batch; the largest seeds wrap around."""
    torch.manual_seed((settings.seed * 1_000_003 + index) % (1 << 63))


def _drop_lost_steps(file: Path, step: int) -> None:
    """Take from the metrics what a killed run wrote behind the state that it left; those steps are made again."""
    kept = []
    for line in file.read_text().splitlines(keepends=True):
        with suppress(ValueError, KeyError):  # cut short by the kill
            if json.loads(line)["step"] <= step:
                kept.append(line)
    file.write_text("".join(kept))


def _means(found: list[dict[str, Tensor]], processes: Processes) -> dict[str, float]:
    """The mean of each metric over the micro-batches that have it."""
    values: dict[str, list[float]] = {}
    for metrics in processes.gather_objects([{k: v.item() for k, v in tensors.items()} for tensors in found]):
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    return {name: sum(all_of_it) / len(all_of_it) for name, all_of_it in values.items()}


def _kept(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module that training may change: all but frozen parameters."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value.detach() for name, value in module.state_dict().items() if name not in frozen}


def _rate_share(step: int, num_steps: int, settings: LoopSettings) -> float:
    """Of the peak rates, at a step."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, num_steps)))
    return warm * (settings.final_rate + (1 - settings.final_rate) * cosine)


def _save(
    file: Path,
    step: int,
    module: nn.Module,
    optimizer: Optimizer,
    parameters: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    extra: Callable[[], Mapping[str, Tensor]] | None,
) -> None:
    tensors = {f"module.{name}": t for name, t in _kept(module).items()}
    tensors |= {f"average.{name}": t for name, t in average.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state(parameter).items():
            tensors[f"optimizer.{key}.{name}"] = value
    if extra is not None:
        tensors |= {f"extra.{name}": t for name, t in extra().items()}
    tensors = {name: t.to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()}
    try:
        with partial_file(file) as temporary:
            save_file(tensors, temporary, metadata={"step": str(step)})
            temporary.replace(file)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArlonError(f"Could not write {file}: {reason}; make room, and the same command goes on.") from error


def _load(
    file: Path,
    module: nn.Module,
    optimizer: Optimizer,
    parameters: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    load_extra: Callable[[dict[str, Tensor]], None] | None,
) -> int:
    groups: dict[str, dict[str, Tensor]] = {"module": {}, "average": {}, "optimizer": {}, "extra": {}}
    try:
        with safe_open(file, framework="pt") as stored:
            step = int((stored.metadata() or {}).get("step", 0))
            for key in stored.keys():  # noqa: SIM118 - not a dict
                group, name = key.split(".", 1)
                groups[group][name] = stored.get_tensor(key)
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged; remove it to start anew.") from error
    try:
        loaded = module.load_state_dict(groups["module"], strict=False)
        if loaded.unexpected_keys or _kept(module).keys() & set(loaded.missing_keys):
            raise KeyError
        for name, value in groups["average"].items():
            average[name].copy_(value)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file} holds the training state of another model; remove it to start anew.") from error
    for key, value in groups["optimizer"].items():
        entry, name = key.split(".", 1)
        parameter = parameters[name]
        optimizer.state(parameter)[entry] = value if entry == "step" else value.to(parameter.device)
    if load_extra is not None and groups["extra"]:
        load_extra(groups["extra"])
    return step


def steps_within(seconds: float, step: Callable[[], None], synchronize: Callable[[], None]) -> int:
    """How many calls of `step` fit into `seconds` behind those that tell; ten at least.

    Batches have several shapes in turn, and the first of each shape takes longer: so a thirtieth of the time warms up,
    with at least two calls, and as much is measured, with at least three.
    """
    _, warm = _calls_within(seconds / 30, 2, step, synchronize)
    calls, measured = _calls_within(seconds / 30, 3, step, synchronize)
    return max(10, int((seconds - warm - measured) * calls / measured))


def _calls_within(
    seconds: float, least: int, step: Callable[[], None], synchronize: Callable[[], None]
) -> tuple[int, float]:
    """Call `step` for so many seconds, `least` times at least; returns how often that was, and how long it took."""
    start = time.monotonic()
    for calls in itertools.count(1):
        step()
        synchronize()
        taken = time.monotonic() - start
        if calls >= least and taken >= seconds:
            break
    return calls, taken
