"""A SLURM job script for any entry point, which goes on by itself after preemption and time limits.

With ``-P "configs=configs/ai4arctic/training_*.py"`` a script for each of these configs.
"""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

import shlex

from swath import config as configs
from swath import tracking
from swath.files import atomic_write
from swath.studies.slurm import SlurmConfig, job_script, jobs_of


def main() -> None:
    config, _ = configs.from_command_line(SlurmConfig)
    written = [write_job(job) for job in jobs_of(config)]
    submit = f"sbatch {written[0]}"
    if len(written) > 1:
        submit = f'for job in {" ".join(written)}; do sbatch "$job"; done'
    print(f"submit from the project's root: {submit}")


def write_job(job: SlurmConfig) -> str:
    """Write the script of one job; return its path from the project's root."""
    given = {"config_path": job.run_config} if job.run_config else {}
    text = job_script(job, tracking.command_of(job.entry_point, given | (job.parameters or {})))
    path = configs.absolute(job.output_path)
    with atomic_write(path) as part:
        part.write_text(text)
    return shlex.quote(configs.relative(path))


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
