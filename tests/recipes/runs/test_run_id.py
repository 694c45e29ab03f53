"""The run id: the same for the same choices, another for every choice that decides the result."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from recipes.runs.run_id import choices, conditions, run_id
from recipes.settings.schema import Config
from tests.recipes.conftest import TINY, composed


@functools.cache
def tiny_id() -> str:
    """A tiny run's id, wherever it writes."""
    return run_id(composed(*TINY))


@pytest.mark.parametrize(
    "change",
    [
        "optim.lr=.5",
        "optim.weight_decay=.5",
        "optim.betas=[.8,.9]",
        "optim.momentum_dtype=null",
        "seed=1",
        "steps=21",
        "batch_size=32",
        "optim=adamw",
        "data=glyphs",
        "precision=bf16",
        "model.args.depth=2",
        "schedule=linear",
        "augment.shift=2",
        "augment.mixup=0.5",
        "decay=all",
        "clip_norm=1",
        "ema_decay=0.9",
        "eval_every=7",
        "init_from=timm/vit",
        "+optim.cautious=true",
        "+optim.fused=false",
    ],
)
def test_the_id_changes_with_what_decides_the_result(tiny, change: str) -> None:
    assert tiny_id() != run_id(tiny(change))


@pytest.mark.parametrize(
    "change",
    [
        "output_dir=/elsewhere",
        "tracker=wandb",
        "log_every=7",
        "checkpoint_every=3",
        "data.workers=2",
        "device=cpu",
        "device_memory=80GB",
        "optim.variant=other",
        "accumulate=2",
        "eval_batch_size=7",
        "scale.threads=2",
        "shard=true",
        "clip_norm=null",
        "init_from=null",
        "schedule.final_factor=0",
        "optim.betas=[0.90,99e-2]",
        "+optim.cautious=false",
        "+optim.foreach=null",
        "+optim.fused=null",
    ],
)
def test_the_id_does_not_change_with_execution_spelling_or_defaults(tiny, change: str) -> None:
    assert tiny_id() == run_id(tiny(change))


@pytest.mark.parametrize("key", ["optim.lr", "optim.weight_decay", "clip_norm", "+optim.betas.0", "augment.mixup"])
def test_the_id_does_not_change_with_how_a_number_is_written(tiny, key: str) -> None:
    if key.startswith("+"):
        spelled = ["optim.betas=[0,0.99]", "optim.betas=[0.0,0.99]", "optim.betas=[0e3,99e-2]"]
    else:
        spelled = [f"{key}=1", f"{key}=1.0", f"{key}=10e-1"]
    assert len({run_id(tiny(text)) for text in spelled}) == 1


def test_the_id_is_the_same_in_every_process_and_release() -> None:
    cfg = OmegaConf.create({"optim": {"name": "o", "lr": 1e-3}, "data": {"name": "d"}, "task": {"name": "t"}})
    assert run_id(cfg) == "156f1a641402"


def test_a_new_setting_at_its_default_changes_no_id(tiny) -> None:
    cfg = tiny()
    before = run_id(cfg)
    OmegaConf.set_struct(cfg, False)
    with_field = dataclasses.make_dataclass("Later", [("later", int, 3)], bases=(Config,))
    later = OmegaConf.merge(OmegaConf.structured(with_field), OmegaConf.create(OmegaConf.to_container(cfg)))

    import recipes.runs.run_id

    own, recipes.runs.run_id.Config = recipes.runs.run_id.Config, with_field
    try:
        assert run_id(later) == before
        later.later = 4
        assert run_id(later) != before
    finally:
        recipes.runs.run_id.Config = own


def test_the_defaults_that_ids_leave_out_stay_what_they_were() -> None:
    """A default that changes would give another run an old run's id: give the new behaviour a new value instead."""
    known = json.loads((Path(__file__).parent / "schema_defaults.json").read_text())
    now = json.loads(json.dumps(dataclasses.asdict(Config())))
    changed = {key for key in known if now.get(key) != known[key] and not isinstance(known[key], dict)}
    for key in known:
        if isinstance(known[key], dict):
            changed |= {f"{key}.{name}" for name, value in known[key].items() if now[key].get(name) != value}
    assert not changed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["content", "a/b.txt", "c.bin"]), st.binary(max_size=20), min_size=1))
def test_data_count_by_content_and_not_by_place(tiny, tmp_path: Path, files: dict[str, bytes]) -> None:
    places = [tmp_path / "one", tmp_path / "mount" / "two"]
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    (places[1] / ".DS_Store").write_text("a mount's own")
    link = tmp_path / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(places[0])
    cfg = tiny()  # composed once: what a path holds is read by run_id alone

    def id_at(path: str) -> str:
        cfg.data.path = path
        return run_id(cfg)

    ids = [id_at(text) for text in [*map(str, places), f"{places[0]}/", f"{places[0]}/../one", str(link)]]
    assert len(set(ids)) == 1
    other = tmp_path / "mount" / "three"
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(places[0], other)
    name = min(files)
    (other / name).write_bytes(files[name] + b"x")
    assert id_at(str(other)) != ids[0]


def test_the_hub_name_counts_only_where_no_path_goes_before_it(tiny, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("text")
    path = f"data.path={tmp_path}"
    assert run_id(tiny(path, "data.hub=a/b")) == run_id(tiny(path, "data.hub=c/d")) == run_id(tiny(path))
    assert run_id(tiny("data.hub=a/b")) != run_id(tiny("data.hub=c/d"))
    assert run_id(tiny("data.hub=a/b")) == run_id(tiny("data.hub=a/b/"))


def test_linked_class_folders_count_by_what_they_hold(tiny, tmp_path: Path) -> None:
    """And a link that leads back to where it lies is no endless walk."""
    for name, content in (("one", "a"), ("two", "b")):
        (tmp_path / f"held-{name}").mkdir()
        (tmp_path / f"held-{name}" / "x.txt").write_text(content)
        (tmp_path / name).mkdir()
        (tmp_path / name / "class").symlink_to(tmp_path / f"held-{name}")
        (tmp_path / name / "again").symlink_to(tmp_path / name)
    ids = [run_id(tiny(f"data.path={tmp_path / name}")) for name in ("one", "two")]
    assert ids[0] != ids[1]


def test_a_folder_that_is_called_like_a_hub_name_changes_nothing(tiny, tmp_path: Path, monkeypatch) -> None:
    before = run_id(tiny("data.hub=a/b"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert run_id(tiny("data.hub=a/b")) == before


def test_a_file_that_has_a_settings_value_as_its_name_changes_nothing(tiny, tmp_path: Path, monkeypatch) -> None:
    before = run_id(tiny())
    monkeypatch.chdir(tmp_path)
    for name in ("bfloat16", "lion", "fp32", "cosine", "mnist5k"):
        (tmp_path / name).write_text("x")
    assert run_id(tiny()) == before


def test_the_id_follows_what_stands_in_a_program_and_not_where_it_lies(tiny, tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a")
    two.write_text("a")
    ids = [run_id(tiny("optim=program", f"optim.program={path}")) for path in (one, two)]
    two.write_text("bb")
    changed = run_id(tiny("optim=program", f"optim.program={two}"))
    assert ids[0] == ids[1] != changed


def test_a_run_that_gives_its_weights_counts_by_its_id(tiny, tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "0123456789ab", tmp_path / "b" / "copied"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"run_id": "0123456789ab", "seconds": {"data": id(folder)}}))
    ids = {run_id(tiny(f"init_from={folder}{end}")) for folder in folders for end in ("", "/")}
    assert len(ids) == 1


def test_choices_are_what_differs_from_the_defaults(tiny) -> None:
    assert choices(tiny("clip_norm=2.0"))["clip_norm"] == 2
    assert not {"decay", "precision", "shard", "output_dir", "tuned"} & set(choices(tiny()))
    assert choices(tiny())["task"] == {"name": "vit_b16"}


@pytest.mark.parametrize("change", ["optim.lr=.5", "optim=adamw", "seed=3", "tracker=wandb"])
def test_runs_that_differ_in_optimizer_and_seed_share_their_conditions(tiny, change: str) -> None:
    assert conditions(tiny()) == conditions(tiny(change))


@pytest.mark.parametrize("change", ["steps=21", "clip_norm=1", "precision=bf16", "schedule=linear", "decay=all"])
def test_runs_under_other_conditions_do_not(tiny, change: str) -> None:
    assert conditions(tiny()) != conditions(tiny(change))
