"""A SLURM job script for any entry point, which goes on by itself after preemption and time limits."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.files import atomic_write
from swath.studies.slurm import SlurmConfig, job_script


def main() -> None:
    config, _ = configs.from_command_line(SlurmConfig)
    given = {"config_path": config.run_config} if config.run_config else {}
    text = job_script(config, tracking.command_of(config.entry_point, given | (config.parameters or {})))
    path = configs.absolute(config.output_path)
    with atomic_write(path) as part:
        part.write_text(text)
    print(f"submit from the project's root: sbatch {configs.relative(path)}")


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
