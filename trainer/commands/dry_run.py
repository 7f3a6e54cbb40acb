"""What `visent train --dry-run` prints."""

import json
from collections.abc import Mapping

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from trainer import estimates, plan
from trainer.config import ModelConfig, RunConfig
from trainer.machine import Machine
from trainer.mesh import sizes
from visent.progress import duration


def show(config: RunConfig, machine: Machine, teacher: ModelConfig | None) -> None:
    """Prints a fitted configuration, and what each stage takes of a machine.

    Raises:
        UserError: the machine's devices do not make the mesh that the configuration asks for.
    """
    console = Console()
    planned = plan.on(machine, config, teacher)
    console.print_json(json.dumps(config.to_json()))
    console.print(_work(planned))
    mesh = " x ".join(f"{size} {axis}" for axis, size in sizes(config.compute, machine.devices).items())
    console.print(f"estimated for {machine.devices} x {machine.name} ({mesh}), GB of each device", highlight=False)
    console.print(_needs(planned))
    for line in [_model(config.model, teacher), *_basis(machine), *_advice(planned)]:
        console.print(line, soft_wrap=True, highlight=False)


def _work(planned: Mapping[str, plan.StagePlan]) -> Table:
    table = Table(
        "stage", "context", "steps", "tokens/step", "TFLOP/step", "tokens", "TFLOP", box=SIMPLE, pad_edge=False
    )
    for name, stage in planned.items():
        cost = stage.cost
        teraflops = cost.flops_per_step / 1e12
        per_step = cost.context * cost.batch_sentences
        numbers = (cost.context, cost.steps, per_step, teraflops, float(cost.tokens), teraflops * cost.steps)
        table.add_row(name, *(f"{n:,.3g}" if isinstance(n, float) else f"{n:,}" for n in numbers))
    return table


def _needs(planned: Mapping[str, plan.StagePlan]) -> Table:
    table = Table("stage", "remat", "weights", "gradients", "activations", "memory", "time", box=SIMPLE, pad_edge=False)
    for name, stage in planned.items():
        memory = stage.memory
        parts = (memory.parameters, memory.gradients, memory.activations, memory.total)
        table.add_row(name, stage.remat, *(f"{part / 1e9:,.2f}" for part in parts), duration(stage.seconds))
    return table


def _model(model: ModelConfig, teacher: ModelConfig | None) -> str:
    line = f"model {model.name}: {model.parameters:,} parameters"
    return line if teacher is None else f"{line}; teacher {teacher.name}: {teacher.parameters:,}"


def _basis(machine: Machine) -> list[str]:
    """Returns what the estimates rest on."""
    factor, again = estimates.FACTOR, plan.FORWARD_AGAIN
    room = "how much there is here is not known"
    if machine.memory is not None:
        room = f"{estimates.SPARE:.0%} of {machine.memory / 1e9:,.1f} GB is planned with"
    return [
        f"time: FLOPs / ({machine.basis}); {again:.2f} x FLOPs where remat is full; no input, evaluation or saving",
        f"memory: from shapes, within a factor of {factor} of XLA's count on CPU; weights with Adam's moments; {room}",
    ]


def _advice(planned: Mapping[str, plan.StagePlan]) -> list[str]:
    """Returns what to set where a stage does not fit, or would be faster otherwise."""
    found = []
    for name, stage in planned.items():
        setting = f"--set stages.{name}.microbatches"
        if stage.fits is False and stage.microbatches:
            found.append(f"stage {name} does not fit: {setting}={stage.microbatches} does")
        elif stage.fits is False:
            found.append(f"stage {name} does not fit, in microbatches of one sentence a device neither: spread it over "
                         f"devices with --set compute.fsdp=N, or take a smaller --model")  # fmt: skip
        elif stage.without_remat:
            found.append(f"stage {name}: with {setting}={stage.without_remat} nothing is computed again")
    return found
