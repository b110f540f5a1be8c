"""Job scripts for SLURM, run with stand-ins for srun and scontrol around the real entry point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swath.errors import ConfigError
from swath.studies.slurm import SlurmConfig, job_script
from tests.conftest import Script, child_environment
from tests.steps.test_run import finished
from tests.synthetic import write_scenes

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
SRUN = '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "$@" >> "$REQUEUED"\n'


def test_c106_a_job_asks_for_what_it_was_told_and_holds_no_place() -> None:
    config = SlurmConfig(entry_point="training", nodes=2, gpus=4, time="01:00:00", options=("--partition=gpu",))
    text = job_script(config, ["python", "code/training.py", "--config_path", "a b.py"])
    for line in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--requeue", "--partition=gpu"):
        assert f"#SBATCH {line}\n" in text
    assert "srun --kill-on-bad-exit=1 python code/training.py --config_path 'a b.py' &" in text
    assert "--signal=B:USR1@300" in text
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    with pytest.raises(ConfigError, match="nodes=0"):
        job_script(SlurmConfig(entry_point="training", nodes=0), ["true"])


def test_c106_every_entry_point_has_a_job_and_an_unknown_one_is_named(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.sh"
    for name in ("rasterize", "training", "pipeline"):
        assert script("slurm", "configs/demo/slurm.py", entry_point=name, output_path=job) == 0
        command = f"srun --kill-on-bad-exit=1 python code/{name}.py --config_path configs/demo/{name}.py"
        processes = " --num_gpus 1" if name == "training" else ""  # of each task, of which srun starts one per GPU
        assert f"{command}{processes} &" in job.read_text()
    assert script("slurm", "configs/demo/slurm.py", entry_point="trainig", output_path=job) == 1
    assert "entry_point=trainig: not in MLproject" in capsys.readouterr().err


def test_c106_a_pattern_of_configs_is_a_job_for_each(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = sorted(p.stem for p in (ROOT / "configs/unosat").glob("training_fpn_*.py"))
    assert len(wanted) == 3
    given = {"configs": "configs/unosat/training_fpn_*.py", "output_path": tmp_path / "job.sh"}
    assert script("slurm", "configs/demo/slurm.py", **given) == 0
    jobs = [tmp_path / f"job_unosat_{name}.sh" for name in wanted]
    assert sorted(tmp_path.iterdir()) == jobs
    for name, job in zip(wanted, jobs, strict=True):
        assert f" python code/training.py --config_path configs/unosat/{name}.py --num_gpus 1 &" in job.read_text()
        assert f"sbatch {job.name}\n" in job.read_text()
    told = capsys.readouterr().out.splitlines()[-1].partition(": ")[2]
    assert told == f'for job in {" ".join(map(str, jobs))}; do sbatch "$job"; done'
    assert subprocess.run(["bash", "-n"], input=told, text=True, check=False).returncode == 0


def test_c106_a_pattern_that_matches_nothing_is_named(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"configs": "configs/unosat/trainings_*.py", "output_path": tmp_path / "job.sh"}
    assert script("slurm", "configs/demo/slurm.py", **given) == 1
    said = capsys.readouterr().err
    assert "configs=configs/unosat/trainings_*.py: no config file matches" in said
    assert "cross_validation.py" in said  # what the folder has
    assert not list(tmp_path.iterdir())
    given |= {"configs": "configs/unosat/training*.py", "run_config": "configs/unosat/training.py"}
    assert script("slurm", "configs/demo/slurm.py", **given) == 1
    assert "run_config=None leaves it out" in capsys.readouterr().err


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The environment of a compute node: stand-ins for SLURM's commands come first on its path."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    inherited = child_environment(tmp_path / "node.db")
    return inherited | {
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{inherited['PATH']}", "SLURM_JOB_ID": "17",
        "SLURM_SUBMIT_DIR": str(ROOT), "REQUEUED": str(tmp_path / "requeued"),
    }  # fmt: skip


def test_c106_a_job_that_reaches_its_time_limit_is_queued_again_and_ends_complete(
    tmp_path: Path, node: dict[str, str]
) -> None:
    write_scenes(tmp_path / "scenes", 8, (256, 256))
    given = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles", "executor": "serial"}
    command = ["python", "code/generate_tiles.py", "--config_path", "configs/demo/generate_test_tiles.py"]
    command += [f"--{k}={v}" for k, v in given.items()] + ["--tiling.size=48", "--tiling.stride=24"]
    job = tmp_path / "job.sh"
    job.write_text(job_script(SlurmConfig(entry_point="generate_tiles"), command))
    with subprocess.Popen(["bash", str(job)], env=node, cwd=tmp_path) as running:
        while not finished(tmp_path / "tiles") and running.poll() is None:
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGUSR1)
    assert running.returncode == 0
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    assert 1 <= len(finished(tmp_path / "tiles")) < 8
    again = subprocess.run(["bash", str(job)], env=node, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(finished(tmp_path / "tiles")) == 8
    assert len(list((tmp_path / "tiles").rglob("*.tif"))) == 800
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"


def test_c106_a_job_that_fails_is_not_queued_again(tmp_path: Path, node: dict[str, str]) -> None:
    job = tmp_path / "job.sh"
    job.write_text(job_script(SlurmConfig(entry_point="x"), ["bash", "-c", "exit 3"]))
    assert subprocess.run(["bash", str(job)], env=node, check=False).returncode == 3
    assert not (tmp_path / "requeued").exists()
