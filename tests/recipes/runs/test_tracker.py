"""The mirror in Weights & Biases, read back from the file that an offline run leaves."""

import json
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from recipes.errors import ConfigError
from recipes.runs import experiment, record, tracker
from recipes.settings.schema import Tracker
from recipes.training import sampler

CONFIG = {
    "task": {"name": "vit_b16"},
    "optim": {"name": "lion", "lr": 3e-4, "weight_decay": 1.0},
    "scale": {"name": "embedded"},
    "seed": 7,
}
BLOCK, HEADER = 32768, 7  # of a LevelDB log, which is what a .wandb file is


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home without a key: what the machine's user has set up must not matter."""
    home = tmp_path_factory.mktemp("home")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return home


def lines(curve: dict[int, float], split: str = "train", name: str = "loss") -> list[dict[str, Any]]:
    return [{"step": step, "split": split, "name": name, "value": value} for step, value in curve.items()]


def read(path: Path) -> list[Any]:
    """The messages in a .wandb file: records may be split over blocks, the first block begins with 7 more bytes."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    messages, parts, at = [], b"", HEADER
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block that is too short for a header
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        if at + HEADER + length > len(content):  # still being written
            break
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(parts)
            messages.append(message)
            parts = b""
    return messages


def read_when_closed(path: Path) -> list[Any]:
    """The messages once the last one is there: wandb's own process writes them, and may end after `finish` returns."""
    deadline = time.monotonic() + 20
    while True:
        messages = read(path)
        if any(message.HasField("exit") for message in messages) or time.monotonic() > deadline:
            return messages
        time.sleep(0.05)


def items(entries: Iterable[Any]) -> dict[str, Any]:
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


@pytest.mark.parametrize(("status", "exit_code"), [("completed", 0), ("interrupted", 1)])
def test_an_offline_run_holds_identity_config_curves_and_summary(tmp_path: Path, status: str, exit_code: int) -> None:
    folder = tmp_path / "0123abcd"
    folder.mkdir()
    train = {step: 2 / step for step in range(1, 1001)}  # more than one block of the file
    evaluated = {500: 0.5, 1000: 0.75}
    mirror = tracker.make(Tracker("wandb", project="mine", entity="team", mode="offline"), folder, CONFIG)
    for step in range(100, 1001, 100):
        mirror.log(lines({at: train[at] for at in range(step - 99, step + 1)}))
        if step in evaluated:
            mirror.log(lines({step: evaluated[step]}, "val", "accuracy"))
    mirror.finish({"status": status, "best": 0.75, "best_step": 1000, "test": {"test": 0.7}})

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    messages = read_when_closed(file)
    (run,) = [message.run for message in messages if message.HasField("run")]
    assert (run.run_id, run.project, run.entity, run.run_group) == ("0123abcd", "mine", "team", "vit_b16")
    assert run.display_name == "lion-lr0.0003-wd1-s7"
    assert set(run.tags) == {"vit_b16", "lion", "embedded"}
    config = items(run.config.update)
    assert {key: config[key] for key in CONFIG} == CONFIG

    result: dict[str, dict[int, float]] = {"train/loss": {}, "val/accuracy": {}}
    rows = [items(message.history.item) for message in messages if message.HasField("history")]
    for row in rows:
        for name, curve in result.items():
            if name in row:
                curve[row["_step"]] = row[name]
    assert result["train/loss"] == pytest.approx(train)
    assert result["val/accuracy"] == evaluated

    summary: dict[str, Any] = {}
    for message in messages:
        if message.HasField("summary"):
            summary.update(items(message.summary.update))
    assert summary["status"] == status
    assert (summary["best"], summary["best_step"]) == (0.75, 1000)
    assert summary["test"] == {"test": 0.7}
    assert [message.exit.exit_code for message in messages if message.HasField("exit")] == [exit_code]


@pytest.mark.parametrize(
    ("mode", "key", "expected"),
    [
        ("auto", None, "offline"),
        ("auto", "k" * 40, "online"),
        ("offline", "k" * 40, "offline"),
        ("online", None, "online"),
    ],
)
def test_auto_is_online_only_with_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, key: str | None, expected: str
) -> None:
    import wandb

    asked: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **arguments: asked.update(arguments))
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    tracker.make(Tracker("wandb", mode=mode), tmp_path, CONFIG)
    assert asked["mode"] == expected
    assert asked["dir"] == str(tmp_path)


def unreachable(calls: list[str], mirror: Any) -> Any:
    """wandb.init where there is no network."""
    import wandb

    def init(mode: str, **_: Any) -> Any:
        calls.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("Timed out while retrying: connection refused\nConsider something")
        return mirror

    return init


def test_auto_goes_on_offline_where_wandb_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    calls: list[str] = []
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(wandb, "init", unreachable(calls, object()))
    tracker.make(Tracker("wandb"), tmp_path, CONFIG)
    assert calls == ["online", "offline"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "offline" in line
    assert "connection refused" in line


def test_online_is_refused_in_one_line_where_wandb_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    calls: list[str] = []
    monkeypatch.setattr(wandb, "init", unreachable(calls, object()))
    with pytest.raises(ConfigError, match=r"tracker\.mode=online: Timed out .*tracker=none") as refused:
        tracker.make(Tracker("wandb", mode="online"), tmp_path, CONFIG)
    assert "\n" not in str(refused.value)
    assert calls == ["online"]


def mirrored(file: Path) -> tuple[dict[str, dict[int, float]], list[int]]:
    """The curves in a .wandb file and the exit codes that it notes."""
    messages = read_when_closed(file)
    curves: dict[str, dict[int, float]] = {}
    for message in messages:
        if message.HasField("history"):
            row = items(message.history.item)
            for name in row.keys() - {"_step", "_runtime", "_timestamp"}:
                curves.setdefault(name, {})[row["_step"]] = row[name]
    return curves, [message.exit.exit_code for message in messages if message.HasField("exit")]


def test_the_mirror_of_a_run_that_failed_and_went_on_is_complete(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tiny("tracker=wandb", "tracker.mode=offline")
    folder = record.folder_of(cfg)
    seed_all = sampler.seed_all

    def fail_at(*key: int) -> None:
        if len(key) == 3 and key[1] == 12:
            raise ZeroDivisionError("no such thing")
        seed_all(*key)

    monkeypatch.setattr(sampler, "seed_all", fail_at)
    with pytest.raises(ZeroDivisionError):
        experiment.run(cfg)
    monkeypatch.undo()
    (failed,) = folder.glob("wandb/offline-run-*/*.wandb")
    curves, codes = mirrored(failed)
    assert codes == [1]
    assert set(curves["train/loss"]) == {5, 10}
    time.sleep(1.1)  # wandb names folders by the second
    assert experiment.run(cfg) == "completed"
    (whole,) = set(folder.glob("wandb/offline-run-*/*.wandb")) - {failed}
    curves, codes = mirrored(whole)
    assert codes == [0]
    expected: dict[str, dict[int, float]] = {}
    for line in record.read_metrics(folder / "metrics.jsonl"):
        expected.setdefault(f"{line['split']}/{line['name']}", {})[line["step"]] = line["value"]
    assert curves == expected
    assert set(curves) >= {"train/loss", "val/accuracy", "test/accuracy", "time/steps_per_second", "optim/lr"}
    assert set(curves["train/loss"]) == {5, 10, 15, 20}


def test_a_mirror_that_breaks_at_the_end_leaves_the_record_whole(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: tracker.Silent, summary: dict[str, Any]) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(tracker.Silent, "finish", broken)
    cfg = tiny()
    with pytest.raises(ConnectionError):
        experiment.run(cfg)
    summary = record.read_summary(record.folder_of(cfg))
    assert summary is not None
    assert summary["status"] == "completed"
    record.Record(record.folder_of(cfg), cfg).close()  # and unlocked


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    silent = tracker.make(Tracker("none"), tmp_path, CONFIG)
    silent.log(lines({1: 2.0}))
    silent.finish({"status": "completed"})
    assert isinstance(silent, tracker.Silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (Tracker("tensorboard"), ("tracker=tensorboard", "none, wandb")),
        (Tracker("wandb", mode="of-line"), ("tracker.mode=of-line", "auto, online, offline")),
    ],
)
def test_unknown_names_and_modes_are_refused_in_one_line(tmp_path: Path, cfg: Tracker, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refused:
        tracker.make(cfg, tmp_path, CONFIG)
    assert all(word in str(refused.value) for word in words)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_logged_in_by_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tracker.logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert tracker.logged_in()
    for mode in ("offline", "disabled", "dryrun"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert not tracker.logged_in()
    monkeypatch.setenv("WANDB_MODE", "online")
    assert tracker.logged_in()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("machine api.wandb.ai\n  login user\n  password kkkk\n", True),
        ("machine example.org\n  login user\n  password kkkk\n", False),
        ("what is this\n", False),
    ],
)
def test_logged_in_by_what_wandb_login_writes(
    no_account: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: bool
) -> None:
    file = no_account / ".netrc"
    file.write_text(content)
    file.chmod(0o600)
    assert tracker.logged_in() is expected
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not tracker.logged_in()


def test_logged_in_by_a_file_that_netrc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("machine api.wandb.ai login user password kkkk\n")
    monkeypatch.setenv("NETRC", str(file))
    assert tracker.logged_in()
    monkeypatch.setenv("NETRC", str(tmp_path / "missing"))
    assert not tracker.logged_in()


def test_the_id_changes_where_a_record_is_done_again() -> None:
    first, again = (
        tracker.identity("p", None, CONFIG, "0123abcd", created)["id"]
        for created in ("2026-01-02T03:04:05.000006+00:00", "2026-01-02T03:04:05.000007+00:00")
    )
    assert first == "0123abcd-20260102T030405000006"
    assert first != again
    assert tracker.identity("p", None, CONFIG, "0123abcd", None)["id"] == "0123abcd"


def test_a_log_of_wandb_that_cannot_be_written_prints_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    import wandb

    handler = logging.FileHandler("/dev/full")
    monkeypatch.setattr(wandb, "init", lambda **_: object())
    monkeypatch.setattr(logging.getLogger("wandb"), "handlers", [handler])
    tracker.make(Tracker("wandb", mode="offline"), tmp_path, CONFIG)
    handler.handle(logging.makeLogRecord({"msg": "full"}))
    assert capsys.readouterr().err == ""


def test_measurements_of_a_step_are_one_row_and_steps_rise() -> None:
    mixed = [
        *lines({3: 0.3, 1: 0.1}),
        *lines({3: 0.9}, "val", "accuracy"),
        *lines({1: 50.0}, "time", "steps_per_second"),
        *lines({2: 0.2}),
    ]
    assert tracker.by_step(mixed) == [
        (1, {"train/loss": 0.1, "time/steps_per_second": 50.0}),
        (2, {"train/loss": 0.2}),
        (3, {"train/loss": 0.3, "val/accuracy": 0.9}),
    ]
    assert tracker.by_step([]) == []


def test_a_picture_is_mirrored(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "samples.png"
    Image.new("L", (4, 4), 128).save(path)
    mirror = tracker.make(Tracker(name="wandb", mode="offline"), tmp_path, CONFIG)
    mirror.picture(3, "samples", path)
    mirror.finish({"status": "completed"})
    kept = list(tmp_path.rglob("media/images/samples*.png"))
    assert len(kept) == 1
    assert kept[0].read_bytes() == path.read_bytes()
