"""Thousands of damaged inputs, each used in a forked process with limits: ``make fuzz``, or ``python -m tests.fuzz.run``.

Each process has imported all that the product imports, so that a case costs what it does and not its imports. A case on
the command line runs the file of an entry point as ``__main__`` with its arguments in ``sys.argv``: what is parsed, printed
and returned is what a shell gets; only the start of the interpreter and the imports are not repeated.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}
"""Environment of the fuzzer: nothing may start a thread before processes fork."""

SECONDS = 20.0
"""Longer than the honest input and so much is a hang."""
SPACE = 4 << 30
"""Bytes of addresses that a case may take besides those that it starts with; protects the machine."""
SLACK = 64 << 20
"""Bytes that a case may need beyond twice what the honest input needs: the allocator's and libraries' first use."""
SHARE_RUN = 0.3
"""Share of the cases that run scripts."""
SHARE_TYPED = 0.15
"""Share of the cases that are texts on command lines."""

GOOD = ("right", "refused")


@dataclass(frozen=True)
class Found:
    """What became of a case."""

    number: int
    kind: str
    what: str
    outcome: str
    """right, refused; or exception, unnamed, hang, memory, crash, partial, wrong."""
    said: str
    script: str | None
    seconds: float = 0.0
    memory: int = 0
    result: str = ""


@dataclass(frozen=True)
class Case:
    """What is done in the folder of a case: `prepare` damages and says what was done, `use` uses it."""

    kind: str
    needs: tuple[str, ...]
    prepare: Callable[[Path, np.random.Generator], tuple[str, Sequence[str]]]
    """Returns what was done, and the words of which an error has to have one."""
    use: Callable[[Path], Any]
    equal: str
    script: str | None
    name: str


# ------------------------------------------------------------------------------------------------------------ one case


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def forked(work: Callable[[], None], log: Path, seconds: float) -> tuple[int | None, int, float]:
    """Do work in a forked process; (its exit status, None when it took too long; its peak memory; seconds)."""
    sys.stdout.flush()
    sys.stderr.flush()
    before, started = resident(), time.monotonic()
    child = os.fork()
    if child == 0:
        _child(work, log)
    status = None
    while status is None and time.monotonic() - started < seconds:
        ended, code, usage = os.wait4(child, os.WNOHANG)
        if ended:
            status = code
        else:
            time.sleep(0.004)
    taken = time.monotonic() - started
    if status is None:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
    with suppress(ProcessLookupError):  # what it started and left
        os.killpg(child, signal.SIGKILL)
    return status, max(0, usage.ru_maxrss * 1024 - before), taken


def _child(work: Callable[[], None], log: Path) -> None:
    status = 97
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + SPACE
        resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - the end of a forked process, which must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _outcome(case: Case, folder: Path, log: Path, words: Sequence[str], answer: Path) -> None:
    """Use a damaged input, in the forked process; write (outcome, what was said, result)."""
    from swath.errors import SwathError
    from tests.fuzz.corpus import ScriptFailedError

    there = {path: _stamp(path) for path in folder.rglob("*") if path.is_file()}
    result = ""
    try:
        result = str(case.use(folder))
        outcome, said = "right", ""
    except SwathError as error:
        outcome, said = "refused", f"{type(error).__name__}: {error}"
    except ScriptFailedError as error:
        outcome, said = _of_script(error, log)
    except BaseException:  # noqa: BLE001 - what it is all about
        outcome, said = "exception", traceback.format_exc()
    if outcome == "refused" and not any(word in said for word in words):
        outcome = "unnamed"
    broken = next(_broken(folder, there), None)
    if broken:
        outcome, said = "partial", f"{broken}; {said}"
    answer.write_text(json.dumps([outcome, said[-4000:], result]))


def _of_script(error: Any, log: Path) -> tuple[str, str]:
    sys.stderr.flush()
    said = log.read_text(errors="replace")
    clear = error.status == 1 and "error: " in said and "Traceback (most recent call last)" not in said
    return ("refused", said[said.index("error: ") :]) if clear else ("exception", f"{error}: {said}")


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _broken(folder: Path, there: dict[Path, tuple[int, int]]) -> Iterator[str]:
    """Files that a case left under final names and that are not whole, and what it left half written."""
    from tests.fuzz.targets import require_whole

    for path in sorted(folder.rglob("*")):
        if not path.is_file() or there.get(path) == _stamp(path):
            continue
        if ".part" in path.name or any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield f"{path.name} is left half written"
            continue
        try:
            require_whole(path)
        except Exception as error:  # noqa: BLE001 - however its reader puts it
            yield f"{path.name} is not whole ({error})"


# ----------------------------------------------------------------------------------------------------------- all cases


def cases() -> tuple[list[Case], list[Case], list[Case], list[Case]]:
    """Cases by how they are made: files read by functions, by scripts; command lines read, run."""
    from tests.fuzz import targets

    kinds = _configs()
    called = [_of_file(target, f"{target.kind} {i}") for i, target in enumerate(targets.CALLED)]
    run = [_of_file(target, f"{target.kind} script {i}") for i, target in enumerate(targets.RUN)]
    typed = [_of_line(target, kinds) for target in targets.TYPED]
    run_typed = [_of_line(target, kinds) for target in targets.RUN_TYPED]
    return called, run, typed, run_typed


def _of_file(target: Any, name: str) -> Case:
    from tests.fuzz.targets import damaged

    def prepare(folder: Path, rng: np.random.Generator) -> tuple[str, Sequence[str]]:
        path, said = damaged(target, folder, rng)
        words = [path.name, f"{path.stem}."]
        if path.parent.name == "record":  # that weights and description do not fit can be said of either
            words.append(f"{path.parent}/")
        elif path.suffix in (".parquet", ".json", ".jsonl"):  # of which a folder has one
            words.append(f"{path.parent}: ")
        return f"{path.relative_to(folder)}, {said}", words

    return Case(target.kind, target.needs, prepare, target.use, target.equal, target.script, name)


def _of_line(target: Any, kinds: dict[str, Any]) -> Case:
    from tests.fuzz.targets import odd_field, read_command_line, script

    chosen: list[tuple[str, str]] = []

    def prepare(folder: Path, rng: np.random.Generator) -> tuple[str, Sequence[str]]:
        name, text = odd_field(target, rng, kinds)
        chosen[:] = [(name, text)]
        last = [part for part in name.split(".") if part][-1:]
        words = (*last, name, repr(text), text[:40], "config_path")
        return f"--{name[:60]}={text[:60]!r}", [word for word in words if word]

    def use(folder: Path) -> str:
        for name, text in chosen:
            if target.run:
                return script(target.script, target.config, {**target.given, name: text}, folder)
            return read_command_line(target, kinds[target.script], folder, name, text)
        given = {**target.given}  # the honest one
        return script(target.script, target.config, given, folder) if target.run else ""

    how = "run" if target.run else "read"
    shown = target.script if target.run else None
    return Case(target.kind, target.needs, prepare, use, "none", shown, f"-P {target.script} {how}")


def _configs() -> dict[str, Any]:
    """The config class of each script whose command line is tried."""
    from swath.challenges.unosat.labels import RasterizeConfig
    from swath.challenges.unosat.scenes import Generate3bConfig
    from swath.data.tiles.cutting import TilesConfig
    from swath.data.tiles.statistics import StatsConfig
    from swath.eda.overview import EdaConfig
    from swath.prediction.config import InferenceConfig
    from swath.prediction.merge_tiles import MergeTilesConfig
    from swath.prediction.polygonize import PolygonizeConfig
    from swath.prediction.postprocess import PostprocessConfig
    from swath.scoring.config import ValidateConfig
    from swath.studies.cross_validation import CrossValidationConfig
    from swath.studies.pipeline import PipelineConfig
    from swath.training.config import TrainingConfig
    from swath.training.pretrain_config import PretrainConfig

    return {
        "generate_3b_images": Generate3bConfig, "rasterize": RasterizeConfig, "generate_tiles": TilesConfig,
        "generate_tiles_stats": StatsConfig, "inference": InferenceConfig, "training": TrainingConfig,
        "pretrain": PretrainConfig, "postprocess": PostprocessConfig, "eda": EdaConfig, "pipeline": PipelineConfig,
        "cross_validation": CrossValidationConfig, "polygonize": PolygonizeConfig, "validate": ValidateConfig,
        "merge_tiles": MergeTilesConfig,
    }  # fmt: skip


def import_all() -> None:
    """Import what scripts import, so that forked processes need not; nothing of it may start a thread."""
    import importlib

    sys.path.insert(0, str(ROOT / "code"))
    for path in sorted((ROOT / "code").glob("*.py")):
        importlib.import_module(path.stem)
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import swath.figures.charts
    import swath.steps.handlers  # noqa: F401
    import tests.fuzz.corpus
    import tests.fuzz.targets  # noqa: F401

    alive = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert not alive, f"threads do not survive a fork: {alive}"


ROOT = Path(__file__).resolve().parents[2]


class Fuzzer:
    """A share of the cases, one after the other, on a copy of the corpus and a tracking store of its own."""

    def __init__(self, corpus: Path, work: Path, seed: int) -> None:
        self.corpus, self.work, self.seed = corpus, work, seed
        work.mkdir(parents=True, exist_ok=True)
        self.groups = cases()
        self.honest: dict[str, Found] = {}
        shutil.copy(corpus / "store.db", work / "store.db")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'store.db'}"

    def case(self, number: int) -> Found:
        """Damage an input and use it: what, how and where follows from the number and the seed."""
        rng = np.random.default_rng([self.seed, number])
        called, run, typed, run_typed = self.groups
        is_typed, is_run = rng.random() < SHARE_TYPED, rng.random() < SHARE_RUN
        group = (run_typed if is_run else typed) if is_typed else (run if is_run else called)
        kinds = sorted({case.kind for case in group})
        kind = kinds[int(rng.integers(len(kinds)))]  # as many of each kind of file, however many ways it is used in
        own = [case for case in group if case.kind == kind]
        case = own[int(rng.integers(len(own)))]
        if case.name not in self.honest:
            self.honest[case.name] = self._used(case, -1, None)
        return self._used(case, number, rng)

    def _used(self, case: Case, number: int, rng: np.random.Generator | None) -> Found:
        folder, log, answer = self.work / "case", self.work / "log.txt", self.work / "answer.json"
        plan = self.work / "plan.json"
        for old in (folder, answer, plan):
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
        folder.mkdir()
        for name in case.needs:
            shutil.copytree(self.corpus / name, folder / name)
        done: list[Any] = ["honest", [""]]

        def work() -> None:  # files are damaged in the fork, too: libraries that do so may start threads
            if rng is not None:
                done[:] = case.prepare(folder, rng)
            plan.write_text(json.dumps(done))
            _outcome(case, folder, log, done[1], answer)

        honest = self.honest.get(case.name)
        limit = SECONDS + (honest.seconds if honest else 100)
        status, memory, seconds = forked(work, log, limit)
        what = json.loads(plan.read_text())[0] if plan.is_file() else "?"
        outcome, said, result = self._judged(case, status, memory, answer, log, honest, what)
        return Found(number, case.kind, what, outcome, said, case.script, seconds, memory, result)

    def _judged(
        self, case: Case, status: int | None, memory: int, answer: Path, log: Path, honest: Found | None, what: str
    ) -> tuple[str, str, str]:  # fmt: skip
        if status is None:
            return "hang", log.read_text(errors="replace")[-2000:], ""
        if not answer.is_file():
            return "crash", f"status {status}: {log.read_text(errors='replace')[-2000:]}", ""
        outcome, said, result = json.loads(answer.read_text())
        if honest is None:
            assert outcome == "right", f"{case.name}: the honest input is {outcome}: {said}"
            return outcome, said, result
        if outcome in GOOD and memory > 2 * honest.memory + SLACK:
            return "memory", f"{memory >> 20} MB, the honest input needs {honest.memory >> 20}", result
        must_be_equal = case.equal == "all" or (case.equal == "cut" and " cut: " in f" {what}")
        if outcome == "right" and must_be_equal and result != honest.result:
            return "wrong", "accepted, with another result than the honest input", result
        return outcome, said, result


def make_corpus(folder: Path) -> None:
    """The honest inputs, and a tracking store; in a forked process, since GDAL and Arrow start threads."""

    def work() -> None:
        import mlflow

        from tests.fuzz.corpus import make

        mlflow.create_experiment("fuzz", artifact_location=str(folder / "artifacts"))
        make(folder)

    folder.mkdir(parents=True)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'store.db'}"
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "fuzz"
    log = folder.parent / "corpus.txt"
    status, _, _ = forked(work, log, 600)
    assert status == 0, f"the corpus cannot be made: {log.read_text(errors='replace')}"


def fuzz(numbers: Sequence[int], seed: int, folder: Path, processes: int) -> list[Found]:
    """Do the cases of these numbers, in so many processes; all of them, in order."""
    os.environ |= SETTINGS
    import_all()
    corpus = folder / "corpus"
    make_corpus(corpus)
    gc.collect()
    gc.freeze()  # else each fork copies what it looks through for cycles
    children = []
    for share in range(processes):
        child = os.fork()
        if child == 0:
            _share(numbers[share::processes], corpus, folder / f"worker{share}", seed)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    lines = [line for share in range(processes) for line in (folder / f"found{share}.jsonl").read_text().splitlines()]
    found = sorted((Found(**json.loads(line)) for line in lines), key=lambda one: one.number)
    assert not failed, f"{len(failed)} processes of the fuzzer failed after {len(found)} cases"
    return found


def _share(numbers: Sequence[int], corpus: Path, work: Path, seed: int) -> None:
    status = 1
    try:
        fuzzer = Fuzzer(corpus, work, seed)
        with (work.parent / f"found{work.name.removeprefix('worker')}.jsonl").open("w") as file:
            for number in numbers:
                found = fuzzer.case(number)
                file.write(json.dumps(asdict(found)) + "\n")
                file.flush()
                if found.outcome not in GOOD:
                    print(f"{found.number} {found.kind}: {found.outcome}: {found.what}", flush=True)
        status = 0
    except BaseException:  # noqa: BLE001 - the end of a forked process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


# -------------------------------------------------------------------------------------------------------------- report

COLUMNS = (
    "inputs",
    "by script",
    "right",
    "refused",
    "exception",
    "unnamed",
    "hang",
    "crash",
    "memory",
    "partial",
    "wrong",
)
START, END = "<!-- bad inputs: make fuzz -->", "<!-- end of bad inputs -->"


def table(found: Sequence[Found], command: str) -> str:
    """Inputs and outcomes by kind, as Markdown."""
    rows = [f"| kind | {' | '.join(COLUMNS)} |", f"|---|{'--:|' * len(COLUMNS)}"]
    for kind in [*sorted({one.kind for one in found}), "all"]:
        own = [one for one in found if kind in (one.kind, "all")]
        numbers = [len(own), sum(one.script is not None for one in own)]
        numbers += [sum(one.outcome == outcome for one in own) for outcome in COLUMNS[2:]]
        rows.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
    slowest = max(one.seconds for one in found)
    return "\n".join([f"`{command}`: the slowest took {slowest:.0f} s.", "", *rows])


def written(text: str, part: str) -> str:
    """A document with its part on bad inputs made anew; at its end where it has none."""
    whole = f"{START}\n\n{part}\n\n{END}"
    if START in text:
        return text[: text.index(START)] + whole + text[text.index(END) + len(END) :]
    return f"{text.rstrip()}\n\n{whole}\n"


def main() -> int:
    """Fuzz, and write the report; 1 when any outcome is neither right nor a clear error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases to do again")
    parser.add_argument("--findings", type=Path, help="where to write every case, a line of JSON each")
    parser.add_argument("--report", type=Path, help="document whose part on bad inputs is made anew")
    given = parser.parse_args()
    numbers = given.only or range(given.count)
    with tempfile.TemporaryDirectory(prefix="swath-fuzz-") as folder:
        found = fuzz(numbers, given.seed, Path(folder), given.processes)
    if given.findings:
        given.findings.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    command = f"python -m tests.fuzz.run --count {len(found)} --seed {given.seed}"
    part = table(found, command)
    print(part)
    if given.report:
        given.report.write_text(
            written(given.report.read_text() if given.report.is_file() else "# Reliability\n", part)
        )
    return int(any(one.outcome not in GOOD for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
