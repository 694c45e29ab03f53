"""A run that another starts from is done once, however many ask for it."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from recipes.errors import ConfigError
from recipes.runs import experiment, prerequisite, record, run_id, sweep
from recipes.settings import schema, unknown_settings

ROOT = prerequisite.ROOT
RUN = "run:task=vit_b16 optim=adamw seed=3"
WHOLE = {"run_id": "0", "task": "vit_b16", "optim": "adamw", "metric": "accuracy", "goal": "max", "final": 0.5}


def asking(tiny, *overrides: str) -> DictConfig:
    return tiny(f"init_from='{RUN}'", *overrides)


def record_of(cfg: DictConfig) -> Path:
    """Where the record of the run that is asked for lies."""
    return record.folder_of(schema.composed(["task=vit_b16", "optim=adamw", "seed=3", f"output_dir={cfg.output_dir}"]))


class StandIn:
    """A script instead of run.py, which writes a record with the next of some statuses.

    Args:
        project: a folder for the script.
        record: the folder of the record.
        statuses: of the runs, in their order.
    """

    def __init__(self, project: Path, record: Path, statuses: list[str]) -> None:
        self.calls, summaries = project / "calls", [WHOLE | {"status": status} for status in statuses]
        self.calls.mkdir()
        (project / "run.py").write_text(
            "import json, pathlib, time\n"
            f"calls, summaries = pathlib.Path({str(self.calls)!r}), {summaries}\n"
            "number = len(list(calls.iterdir()))\n"
            "(calls / str(number)).touch()\n"
            "time.sleep(0.3)\n"
            f"pathlib.Path({str(record / 'summary.json')!r}).write_text(json.dumps(summaries[number]))\n"
        )
        (project / "conf").symlink_to(ROOT / "conf")

    def count(self) -> int:
        """How many runs there were."""
        return len(list(self.calls.iterdir()))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StandIn]:
    def install(record: Path, *statuses: str) -> StandIn:
        monkeypatch.setattr(prerequisite, "ROOT", tmp_path)
        return StandIn(tmp_path, record, list(statuses))

    return install


def test_it_is_done_once_for_all_who_ask_at_the_same_time(
    tiny, stand_in: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, folders = asking(tiny), []
    composed = schema.composed(["task=vit_b16"])  # Hydra's composition is not for several threads at once
    place = Path(cfg.output_dir) / "forerunner"
    place.mkdir(parents=True)
    monkeypatch.setattr(record, "folder_of", lambda _: place)
    monkeypatch.setattr(schema, "composed", lambda _: composed)
    runs = stand_in(place, "completed")
    threads = [threading.Thread(target=lambda: folders.append(prerequisite.folder(cfg))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs.count() == 1
    assert folders == [place] * 4


def test_one_that_was_killed_is_gone_on_with(tiny, stand_in: Callable[..., StandIn]) -> None:
    cfg = asking(tiny)
    runs = stand_in(record_of(cfg), "interrupted", "completed")
    with pytest.raises(
        ConfigError, match=r"that run is interrupted .*python run\.py scale=embedded task=vit_b16"
    ) as error:
        prerequisite.folder(cfg)
    assert "\n" not in str(error.value)
    assert prerequisite.folder(cfg).parent.name == "adamw"
    assert runs.count() == 2
    prerequisite.folder(cfg)
    assert runs.count() == 2  # a completed run is not done again


def test_one_that_diverged_is_not_done_again(tiny, stand_in: Callable[..., StandIn]) -> None:
    cfg = asking(tiny)
    runs = stand_in(record_of(cfg), "diverged")
    for _ in range(2):
        with pytest.raises(ConfigError, match="that run is diverged"):
            prerequisite.folder(cfg)
    assert runs.count() == 1


def test_where_it_lies_does_not_change_the_run_that_asks(tiny) -> None:
    here, there = asking(tiny), asking(tiny, "output_dir=elsewhere")
    assert record.run_id(here) == record.run_id(there)
    assert record.run_id(here) != record.run_id(tiny())


@pytest.mark.parametrize("setting", ["init_from={}", "+model.args.judge={}"])
def test_a_changed_setting_of_it_makes_another_run_of_the_one_that_asks(
    tiny, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """As where somebody edits the file in conf/setting that the command is composed from."""
    cfg = tiny(setting.format(f"'{RUN}'"))
    as_shipped, compose = record.run_id(cfg), schema.composed
    run_id._id_of.cache_clear()
    monkeypatch.setattr(schema, "composed", lambda overrides: compose([*overrides, "log_every=7"]))
    assert record.run_id(cfg) == as_shipped  # what does not decide its result
    run_id._id_of.cache_clear()
    monkeypatch.setattr(schema, "composed", lambda overrides: compose([*overrides, "steps=7"]))
    assert record.run_id(cfg) != as_shipped
    run_id._id_of.cache_clear()


def test_a_command_that_cannot_be_composed_is_one_line(tiny) -> None:
    with pytest.raises(ConfigError, match="names no task"):
        record.run_id(tiny("init_from='run:optim=adamw'"))
    with pytest.raises(HydraException) as error:
        record.run_id(tiny("init_from='run:task=nonesuch'"))
    assert unknown_settings.one_line(error.value).startswith("task=nonesuch is unknown; known: basic, bert_large")


def test_it_is_a_process_that_holds_the_lock_and_knows_no_launcher(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of run.py, a script that writes down what it was given."""
    script = """import fcntl, json, os, sys
place = os.environ["PLACE"]
with open(place + "/.first.lock") as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except BlockingIOError:
        held = True
told = {"held": held, "arguments": sys.argv[1:], "environment": dict(os.environ)}
json.dump(WHOLE | {"status": "completed"} | told, open(place + "/summary.json", "w"))
"""
    (tmp_path / "run.py").write_text(f"WHOLE = {WHOLE}\n{script}")
    (tmp_path / "conf").symlink_to(prerequisite.ROOT / "conf")
    monkeypatch.setattr(prerequisite, "ROOT", tmp_path)
    cfg = asking(tiny)
    place = record_of(cfg)
    monkeypatch.setenv("PLACE", str(place))
    told_by_others = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "localhost",
        "TORCHELASTIC_RUN_ID": "none",
        "OMPI_COMM_WORLD_RANK": "0",
        "HYDRA_FULL_ERROR": "1",
        sweep.VARIABLE: str(tmp_path / "sweep"),
    }
    for name, value in (told_by_others | {"CUDA_VISIBLE_DEVICES": "3"}).items():
        monkeypatch.setenv(name, value)
    assert prerequisite.folder(cfg) == place
    told = record.read_summary(place)
    assert told is not None
    assert told["held"]
    assert not told_by_others.keys() & told["environment"].keys()
    assert told["environment"]["CUDA_VISIBLE_DEVICES"] == "3"
    assert told["arguments"][:4] == ["scale=embedded", "task=vit_b16", "optim=adamw", "seed=3"]


def test_its_config_is_composed_while_hydra_runs_the_process() -> None:
    with initialize_config_dir(str(prerequisite.ROOT / "conf"), version_base="1.3"):
        running = GlobalHydra.instance().hydra
        assert schema.composed(["task=vit_b16", "seed=7"]).seed == 7
        assert GlobalHydra.instance().hydra is running
        assert compose("config", overrides=["seed=8"]).seed == 8


def test_every_family_starts_from_the_weights_that_the_run_left(tiny, stand_in: Callable[..., StandIn]) -> None:
    cfg = asking(tiny)
    stand_in(record_of(cfg), "completed")
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        experiment.run(cfg)


def test_a_resolved_config_has_folders_and_the_original_keeps_the_commands(
    tiny, stand_in: Callable[..., StandIn]
) -> None:
    cfg = tiny(f"init_from='{RUN}'", f"+model.args.judge='{RUN}'", "+model.args.text=t5-small")
    before = cfg.copy()
    runs = stand_in(record_of(cfg), "completed")
    resolved = prerequisite.resolved(cfg)
    assert cfg == before
    folder = Path(resolved.init_from)
    assert (folder / "summary.json").exists()
    assert (resolved.model.args.judge, resolved.model.args.text) == (str(folder), "t5-small")
    assert runs.count() == 1
    assert prerequisite.resolved(resolved) == resolved
