import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from recipes import files
from recipes.errors import ConfigError
from recipes.runs import experiment, tracker
from recipes.runs.record import Record, folder_of, read_metrics, read_summary
from recipes.runs.run_id import run_id
from recipes.training import sampler
from recipes.training.loop import Trainer


def open_record(cfg: DictConfig) -> Record:
    return Record(folder_of(cfg), cfg)


def test_measurements_are_on_disk_at_once_and_read_back(tiny) -> None:
    record = open_record(tiny())
    assert record.begin(0) == []
    record.log(3, "train", {"loss": 0.5}, 1.23456)
    expected = [{"step": 3, "split": "train", "name": "loss", "value": 0.5, "seconds": 1.235}]
    assert read_metrics(record.folder / "metrics.jsonl") == expected
    record.close()


def test_a_resumed_record_drops_what_came_after_the_checkpoint(tiny) -> None:
    cfg = tiny()
    record = open_record(cfg)
    record.begin(0)
    for step in (5, 10, 15):
        record.log(step, "train", {"loss": float(step)}, float(step))
    record.close()
    with (record.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "split": "tra')  # torn by a kill
    again = open_record(cfg)
    assert [line["step"] for line in again.begin(10)] == [5, 10]
    again.log(15, "train", {"loss": 1.0}, 15.0)
    again.close()
    assert [line["step"] for line in read_metrics(again.folder / "metrics.jsonl")] == [5, 10, 15]


def test_what_is_measured_after_the_last_checkpoint_is_dropped_where_it_is_measured_again(tiny) -> None:
    cfg = tiny()
    record = open_record(cfg)
    record.begin(0)
    for split in ("train", "val", "test", "real"):
        record.log(20, split, {"loss": 1.0}, 1.0)
    record.close()
    again = open_record(cfg)
    assert [line["split"] for line in again.begin(20, redone={"test", "real"})] == ["train", "val"]
    again.close()


def test_a_process_forked_from_a_killed_run_does_not_lock_the_next_one_out(tiny) -> None:
    record = open_record(tiny())
    reader, writer = os.pipe()
    begun, begin = os.pipe()
    child = os.fork()
    if child == 0:  # as a loader process does, which notices seconds later that its parent is gone
        os.close(writer)
        os.write(begin, b"1")
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        assert os.read(begun, 1) == b"1"
        record.close()
        with (record.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for end in (writer, begun, begin):
            os.close(end)
        os.waitpid(child, 0)


def test_a_second_writer_is_refused(tiny) -> None:
    cfg = tiny()
    first = open_record(cfg)
    with pytest.raises(ConfigError, match="being written by another process"):
        open_record(cfg)
    first.close()
    open_record(cfg).close()


def test_an_output_folder_that_cannot_be_written_is_refused(tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output_dir=.*cannot write"):
        open_record(tiny(f"output_dir={tmp_path / 'file'}"))


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace"), (Path, "write_text")])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
) -> None:
    path = tmp_path / "summary.json"
    files.write_json(path, {"status": "completed"})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, call, refuse)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"status": "failed"})
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"status": "completed"}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"status": "comp'])
def test_a_torn_summary_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    assert read_summary(tmp_path) is None


def test_the_folder_is_task_optimizer_and_id(tiny) -> None:
    cfg = tiny("optim=adamw")
    assert folder_of(cfg) == Path(cfg.output_dir) / "vit_b16" / "adamw" / run_id(cfg)


def copy_in_its_place(folder: Path) -> None:
    shutil.copytree(folder.rename(folder.with_name("elsewhere")), folder)


REMOVALS: dict[str, Callable[[Path], object]] = {
    "deleted": shutil.rmtree,
    "moved": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "emptied": lambda folder: [path.unlink() for path in folder.iterdir() if path.is_file()],
    "replaced": copy_in_its_place,
}


@pytest.mark.parametrize(
    ("how", "moment"),
    [("deleted", "save"), ("moved", "step"), ("emptied", "val"), ("deleted", "test"), ("replaced", "test")],
)
def test_a_record_that_is_removed_during_the_run_is_no_completed_one(
    tiny, monkeypatch: pytest.MonkeyPatch, how: str, moment: str
) -> None:
    cfg = tiny()
    folder, remove = folder_of(cfg), REMOVALS[how]
    left: list[Path] = []

    def once() -> None:
        if not left:
            remove(folder)
            left.extend([folder, *folder.rglob("*")])

    evaluate, save, seed_all = Trainer.evaluate, Trainer.save, sampler.seed_all

    def evaluated(self: Trainer, split: str, step: int) -> dict[str, float]:
        if split == moment:
            once()
        return evaluate(self, split, step)

    def saved(self: Trainer, step: int) -> None:
        if moment == "save":
            once()
        save(self, step)

    def seeded(*key: int) -> None:
        if moment == "step" and key[1:] == (7, 0):
            once()
        seed_all(*key)

    monkeypatch.setattr(Trainer, "evaluate", evaluated)
    monkeypatch.setattr(Trainer, "save", saved)
    monkeypatch.setattr(sampler, "seed_all", seeded)
    with pytest.raises(ConfigError, match=rf"{folder.name} was deleted or moved while this run was writing it"):
        experiment.run(cfg)
    if how == "deleted":
        assert not folder.exists()
    else:
        assert sorted(left) == sorted([folder, *folder.rglob("*")])  # nothing was added to what is not its own
    monkeypatch.undo()
    if how != "replaced":
        assert experiment.run(cfg) == "completed"


def test_a_finished_summary_without_its_figures_does_not_count(tiny) -> None:
    opened = open_record(tiny())
    opened.summarise({"status": "completed"})
    opened.close()
    summary = read_summary(opened.folder)
    assert summary is not None
    assert (summary["status"], summary["cause"]) == ("interrupted", "its summary is not whole")


def test_what_is_not_finite_is_written_as_json_and_read_again(tiny) -> None:
    opened = open_record(tiny())
    opened.begin(0)
    opened.log(1, "train", {"a": float("nan"), "b": float("-inf"), "c": 1.0}, 0.1)
    opened.summarise({"best": float("inf"), "inner": [float("nan")]})
    opened.close()
    lines = [json.loads(text, parse_constant=pytest.fail) for text in (opened.folder / "metrics.jsonl").open()]
    assert [(line["value"], line.get("nonfinite")) for line in lines] == [(None, "nan"), (None, "-inf"), (1.0, None)]
    assert [str(line["value"]) for line in read_metrics(opened.folder / "metrics.jsonl")] == ["nan", "-inf", "1.0"]
    summary = json.loads((opened.folder / "summary.json").read_text(), parse_constant=pytest.fail)
    assert (summary["best"], summary["nonfinite"], summary["inner"]) == (None, {"best": "inf"}, [None])


@pytest.mark.parametrize("state_file", ["optimizer.pt", "parts/.metadata"], ids=["whole", "in shards"])
def test_a_record_that_goes_on_keeps_its_time_and_one_done_again_gets_another(tiny, state_file: str) -> None:
    opened = open_record(tiny())
    opened.summarise({"status": "interrupted"})
    opened.close()
    again = open_record(tiny())
    again.summarise({"status": "interrupted"})
    again.close()
    assert again.created > opened.created
    state = again.folder / "checkpoint" / "step-00000005" / state_file
    state.parent.mkdir(parents=True)
    state.touch()
    later = open_record(tiny())
    later.close()
    assert later.created == again.created


def test_a_mistake_before_the_first_step_leaves_no_record(tiny, tmp_path) -> None:
    cfg = tiny("init_from=/nowhere/model.safetensors")
    with pytest.raises(ConfigError):
        experiment.run(cfg)
    assert not (tmp_path / "outputs" / "vit_b16").exists()
    folder = folder_of(cfg)
    folder.mkdir(parents=True)
    (folder / "note.txt").touch()
    with pytest.raises(ConfigError):
        experiment.run(cfg)
    assert (folder / "note.txt").exists()  # it was there before


def test_an_unreachable_tracker_leaves_no_record(tiny, tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("no")

    monkeypatch.setattr(tracker, "make", refuse)
    with pytest.raises(ConfigError):
        experiment.run(tiny())
    assert not (tmp_path / "outputs" / "vit_b16").exists()
