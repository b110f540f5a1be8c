"""Job scripts for SLURM: any entry point, going on by itself after preemption, node failure or the time limit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from swath.config import OutputPath, configclass
from swath.errors import ConfigError
from swath.studies.config_patterns import label_of, matching_configs


@configclass
class SlurmConfig:
    """A job script that runs an entry point and puts itself back into the queue until the work is done."""

    entry_point: str
    """Entry point of MLproject, e.g. training."""
    parameters: dict[str, str] | None = None
    """Its parameters besides config_path, as after -P: {"epochs": "40"}; None for none."""
    run_config: str | None = None
    """config_path of the entry point; None takes the entry point's default."""
    configs: str | None = None
    """Pattern of config files, such as configs/ai4arctic/training_*.py, instead of run_config: a job for each."""
    output_path: OutputPath = "output/slurm/job.sh"
    """The script to write; submit it from the project's root with sbatch. With `configs`, each script has the name of
    its config at the end: job_ai4arctic_training_basilico.sh."""
    nodes: int = 1
    """Number of nodes. Training and inference spread over them; preparation spreads by executor=dask://... instead."""
    gpus: int = 0
    """GPUs per node; each gets a process."""
    cpus: int = 4
    """Cores per process."""
    memory: str = "16G"
    """Memory per node."""
    time: str = "12:00:00"
    """Time limit of one stay; what is not done by then goes back into the queue."""
    grace: int = 300
    """Seconds before the time limit at which the work is told to stop and keep its state."""
    options: tuple[str, ...] = ()
    """Further lines for sbatch, e.g. ("--partition=gpu", "--account=floods")."""


TEMPLATE = """\
#!/bin/bash
{options}

# Submit from the project's root: sbatch {name}
# Runs go to mlflow.db there; for a server: export MLFLOW_TRACKING_URI=http://<host>:5000 before sbatch.
# Compute nodes without network keep working: what the server did not take is left in output/undelivered.
cd "${{SLURM_SUBMIT_DIR:-$PWD}}" || exit 1
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

stopping=
stop() {{
    stopping=yes
    kill -TERM "$step" 2>/dev/null # swath finishes its files and keeps its state
}}
trap stop USR1

srun --kill-on-bad-exit=1 {command} &
step=$!
wait "$step"
status=$?
while kill -0 "$step" 2>/dev/null; do # a signal ends the first wait, not the work
    wait "$step"
    status=$?
done
if [ -n "$stopping" ] && [ "$status" -ne 0 ]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def jobs_of(config: SlurmConfig) -> list[SlurmConfig]:
    """The jobs that a config stands for: one for each file that `configs` matches, else itself.

    Raises ConfigError for a pattern that matches nothing, or when a config is given besides.
    """
    if config.configs is None:
        return [config]
    if config.run_config is not None:
        raise ConfigError(
            f"configs={config.configs}, run_config={config.run_config}: give one of them; run_config=None leaves it out"
        )
    script = Path(config.output_path)
    jobs = []
    for path in matching_configs(config.configs):
        own = script.with_name(f"{script.stem}_{label_of(path)}{script.suffix}")
        jobs.append(replace(config, configs=None, run_config=path, output_path=str(own)))
    return jobs


def job_script(config: SlurmConfig, command: Sequence[str]) -> str:
    """The script for the command of an entry point.

    SLURM sends USR1 to it `grace` seconds before the time limit; the work gets SIGTERM, keeps its state, and the job
    goes back into the queue under its own number. The same command goes on from there. Errors are not queued again.
    Raises ConfigError for numbers that make no job.
    """
    if min(config.nodes, config.cpus, config.grace) < 1 or config.gpus < 0:
        raise ConfigError(
            f"nodes={config.nodes}, cpus={config.cpus}, gpus={config.gpus}, grace={config.grace}: "
            "need at least one node, core and second, and no negative number of GPUs"
        )
    options = "\n".join(f"#SBATCH {option}" for option in _options(config))
    return TEMPLATE.format(options=options, name=Path(config.output_path).name, command=shlex.join(command))


def _options(config: SlurmConfig) -> Iterator[str]:
    yield f"--job-name=swath-{config.entry_point}"
    yield f"--nodes={config.nodes}"
    yield f"--ntasks-per-node={max(1, config.gpus)}"
    if config.gpus:
        yield f"--gpus-per-node={config.gpus}"
    yield f"--cpus-per-task={config.cpus}"
    yield f"--mem={config.memory}"
    yield f"--time={config.time}"
    yield "--requeue"
    yield "--open-mode=append"
    yield f"--signal=B:USR1@{config.grace}"
    yield "--output=slurm-%j.out"
    yield from config.options
