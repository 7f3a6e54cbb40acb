"""The options of commands that several hosts run together."""

import functools
from collections.abc import Callable
from typing import Any

import click


def on_hosts(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --hosts, --host-id, --coordinator and --host-timeout; the command runs while the hosts are connected."""

    @click.option("--hosts", envvar="VISENT_HOSTS", metavar="N|auto", show_envvar=True,
                  help="Run on so many hosts, on each with the same command; auto asks Slurm, Open MPI, Cloud TPU or "
                       "Kubernetes (Slurm and Open MPI: one process per GPU).")  # fmt: skip
    @click.option("--host-id", type=int, envvar="VISENT_HOST_ID", show_envvar=True, help="This host's number, from 0.")
    @click.option("--coordinator", envvar="VISENT_COORDINATOR", show_envvar=True, metavar="HOST:PORT",
                  help="A free port of host 0 that all can reach.")  # fmt: skip
    @click.option("--host-timeout", type=click.IntRange(min=1), default=60, show_default=True, metavar="SECONDS",
                  help="A host that is silent for so long is lost.")  # fmt: skip
    @functools.wraps(command)
    def run(
        *args: Any, hosts: str | None, host_id: int | None, coordinator: str | None, host_timeout: int, **options: Any
    ) -> None:
        from trainer.hosts import joined, read

        with joined(read(hosts, host_id, coordinator, host_timeout)):
            command(*args, **options)

    return run
