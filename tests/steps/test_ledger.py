"""The ledger: what counts as done, what is refused, and what another start leaves alone."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swath.errors import RasterError, StepError
from swath.steps import ledger as ledgers
from swath.steps.executors import SerialExecutor
from swath.steps.ledger import Ledger, ledger_line
from swath.steps.run import run_jobs
from swath.version import version
from tests.jobs import Call

DONE_BY: list[str] = []


def copy(paths: tuple[Path, Path]) -> str:
    """Copy a text in capitals; note that it was done, refuse an empty one."""
    source, target = paths
    text = source.read_text()
    if not text:
        raise RasterError(f"{source}: empty")
    DONE_BY.append(source.stem)
    target.parent.mkdir(exist_ok=True)
    target.write_text(text.upper())
    return target.name


def jobs_of(folder: Path, names: str = "abc") -> list[Call]:
    """A job per text file in `folder`, which are written where they are not there."""
    jobs = []
    for name in names:
        source, target = folder / f"{name}.txt", folder / "out" / f"{name}.up"
        if not source.exists():
            source.write_text(name)
        jobs.append(Call(key=name, argument=(source, target), inputs=(source,), outputs=(target,), function=copy))
    return jobs


def start(folder: Path, jobs: list[Call], settings: dict[str, int], replace: bool = False) -> list[str]:
    """Start a step; return what it did now."""
    DONE_BY.clear()
    ledger = Ledger(folder / "out", "copy", settings, {"input_path": folder.name})
    ledger.prepare(jobs, replace, {})
    run_jobs(jobs, ledger, SerialExecutor())
    ledger.complete(jobs, "run")
    return list(DONE_BY)


def test_c13_an_output_that_is_gone_or_changed_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    assert start(tmp_path, jobs, {}) == ["a", "b", "c"]
    (tmp_path / "out" / "a.up").unlink()
    (tmp_path / "out" / "b.up").write_text("X")
    (tmp_path / "out" / "c.up").touch()
    assert start(tmp_path, jobs, {}) == ["a", "b"]
    assert start(tmp_path, jobs, {}) == []


def test_c13_equal_content_of_another_time_redoes_nothing(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    (tmp_path / "a.txt").write_text("a")
    assert start(tmp_path, jobs, {}) == []


def test_c13_an_input_that_is_replaced_during_the_work_is_not_taken_for_done(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a")

    def replaced(paths: tuple[Path, Path]) -> str:
        name = copy(paths)
        paths[0].write_text("newer")
        return name

    start(tmp_path, [jobs[0].by(replaced)], {})
    assert start(tmp_path, jobs, {}) == ["a"]
    assert (tmp_path / "out" / "a.up").read_text() == "NEWER"


def test_c13_a_file_that_an_item_reads_twice_is_no_change(tmp_path: Path) -> None:
    """Tiles that are windows of one scene name it once each."""
    job = jobs_of(tmp_path, "a")[0]
    twice = Call(
        key=job.key, argument=job.argument, inputs=(*job.inputs, *job.inputs), outputs=job.outputs, function=copy
    )  # fmt: skip
    assert start(tmp_path, [twice], {}) == ["a"]
    assert start(tmp_path, [twice], {}) == []


def test_c13_what_a_table_says_of_an_item_decides(tmp_path: Path) -> None:
    class Row(Call):
        decided_by = "nodata 0"

    plain = jobs_of(tmp_path, "a")[0]
    start(tmp_path, [plain], {})
    row = Row(**{name: getattr(plain, name) for name in ("key", "argument", "inputs", "outputs", "function")})
    assert start(tmp_path, [row], {}) == ["a"]
    assert start(tmp_path, [row], {}) == []


def test_c13_a_step_that_failed_at_once_lets_its_settings_be_corrected(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    jobs = jobs_of(tmp_path, "a")
    with pytest.raises(StepError, match="empty"):
        start(tmp_path, jobs, {"factor": 9999})
    (tmp_path / "a.txt").write_text("a")
    assert start(tmp_path, jobs, {"factor": 2}) == ["a"]
    with pytest.raises(StepError, match=r"factor: 2 before, 3 now.*-P replace=True"):
        start(tmp_path, jobs, {"factor": 3})


def test_c13_replacing_forgets_nothing_before_the_first_new_result(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {"factor": 2})
    failing = [job.by(lambda paths: (_ for _ in ()).throw(RasterError("wrong factor"))) for job in jobs]
    with pytest.raises(StepError, match="wrong factor"):
        start(tmp_path, failing, {"factor": 9999}, replace=True)
    assert start(tmp_path, jobs, {"factor": 2}) == []
    assert start(tmp_path, jobs[:2], {"factor": 3}, replace=True) == ["a", "b"]
    assert not (tmp_path / "out" / "c.up").exists()  # of other settings, and made by nobody now
    assert start(tmp_path, jobs[:2], {"factor": 3}) == []


def test_c13_a_ledger_that_names_files_elsewhere_deletes_none(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    other = tmp_path / "other.txt"
    other.write_text("not of this step")
    path = tmp_path / "out" / "copy.done.jsonl"
    entries = [json.loads(line) for line in path.read_text().replace('"c.up"', '"../other.txt"').splitlines()]
    for entry in entries:
        del entry["checksum"]
    path.write_bytes(b"".join(map(ledger_line, entries)))
    start(tmp_path, jobs[:2], {}, replace=True)
    assert other.is_file()


def test_c13_replacing_equal_settings_makes_all_again(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    assert start(tmp_path, jobs, {}, replace=True) == ["a", "b", "c"]


def test_c13_items_of_another_folder_are_not_mixed_in(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = jobs_of(tmp_path / "one", "ab")
    start(tmp_path / "one", first, {})
    second = [
        Call(key=j.key, argument=j.argument, inputs=j.inputs, outputs=j.outputs, function=copy)
        for j in jobs_of(tmp_path / "two", "cd")
    ]
    ledger = Ledger(tmp_path / "one" / "out", "copy", {}, {"input_path": "two"})
    with pytest.raises(StepError, match=r"input_path: one before, two now"):
        ledger.prepare(second, False, {})
    Ledger(tmp_path / "one" / "out", "copy", {}, {"input_path": "moved"}).prepare(first, False, {})


def test_c13_items_that_are_no_inputs_any_more_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start(tmp_path, jobs_of(tmp_path), {})
    with caplog.at_level(logging.WARNING):
        start(tmp_path, jobs_of(tmp_path, "ab"), {})
    assert "results of 1 items that are no longer among the inputs stay (c)" in caplog.text


def test_c13_another_version_warns_and_does_not_redo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    monkeypatch.setattr(ledgers, "version", lambda: "9.9.9")
    with caplog.at_level(logging.WARNING):
        assert start(tmp_path, jobs, {}) == []
    assert f"made by version {version()} of swath, this is 9.9.9; they are kept" in caplog.text


def test_c13_complete_is_what_all_jobs_and_written_files_are(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    ledger = Ledger(tmp_path / "out", "copy", {})
    table = tmp_path / "out" / "table.csv"
    table.write_text("1")
    ledger.complete(jobs, "run 1", [table], about="labels 1")
    assert ledger.made_by(jobs, "labels 1") == "run 1"
    assert ledger.made_by(jobs, "labels 2") is None
    assert ledger.made_by(jobs[:2], "labels 1") is None
    table.write_text("2")
    assert ledger.made_by(jobs, "labels 1") is None


# ------------------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"result": "b.up"', b'"result": "c.up"'),  # right JSON, of the right types
        (b'"result": "b.up"', b'"result": 7'),
        (b'"key": "b"', b'"key": ["b"]'),
        (b'{"key": "b"', b'[{"key": "b"'),
        (b'"b.up"', b'"\xff\xfe"'),
        (b'"version"', b'"versio'),
    ],
)
def test_c129_a_damaged_line_of_a_ledger_is_made_again_and_said(
    tmp_path: Path, old: bytes, new: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    path = tmp_path / "out" / "copy.done.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[1]
    lines[1] = lines[1].replace(old, new)
    path.write_bytes(b"".join(lines))
    with caplog.at_level(logging.WARNING):
        assert start(tmp_path, jobs, {}) == ["b"]
    assert f"{path}: 1 of 3 lines are damaged" in caplog.text
    assert start(tmp_path, jobs, {}) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_c129_no_flipped_bit_of_a_ledger_passes(tmp_path: Path, data: st.DataObject) -> None:
    jobs = jobs_of(tmp_path, "a")
    path = tmp_path / "out" / "copy.done.jsonl"
    path.unlink(missing_ok=True)
    start(tmp_path, jobs, {})
    line = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(line) - 2))  # the last byte ends the line
    line[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(line)
    assert start(tmp_path, jobs, {}) == ["a"]


@pytest.mark.parametrize("content", [b"[1]\n5\nnull\n", b"[" * 100_000, b"\x00\xff" * 100, b'{"a": 1}\n{"key": 3}\n'])
def test_c129_a_ledger_of_anything_is_a_ledger_of_nothing(tmp_path: Path, content: bytes) -> None:
    jobs = jobs_of(tmp_path, "a")
    start(tmp_path, jobs, {})
    (tmp_path / "out" / "copy.done.jsonl").write_bytes(content)
    assert start(tmp_path, jobs, {}) == ["a"]
    assert start(tmp_path, jobs, {}) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"[]", "should be a valid dictionary"),
        (b"{}", "`settings` is missing"),
        (b'{"settings": [1]}', "`settings`: input should be a valid dictionary"),
        (b'{"settings": {}, "sources": null}', "`sources`: input should be a valid dictionary"),
        (b'{"settings": {}, "completed": 5}', "`completed`: input should be a valid dictionary"),
        (b'{"settings": {}, "completed": {"run_id": "r", "items": "i"}}', "`completed.files` is missing"),
        (b'{"settings": {}, "completed": {"run_id": "r", "items": "i", "files": {"a": 1}}}', "`completed.files.a`"),
    ],
)
def test_c129_damaged_settings_are_named_with_the_remedy(tmp_path: Path, content: bytes, said: str) -> None:
    jobs = jobs_of(tmp_path)
    start(tmp_path, jobs, {})
    path = tmp_path / "out" / "copy.settings.json"
    path.write_bytes(content)
    with pytest.raises(StepError) as error:
        start(tmp_path, jobs, {})
    for word in (str(path), said, "Delete it and start copy again with the same command: what is done is kept."):
        assert word in str(error.value)
    path.unlink()
    assert start(tmp_path, jobs, {}) == []
