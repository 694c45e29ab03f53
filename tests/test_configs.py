"""Every config composes, says how to try it, and cannot hold a key that nothing reads."""

import shutil
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from recipes.settings import schema, tuned_tables

CONF = Path(__file__).resolve().parents[1] / "conf"
EXPLAINED = ("task", "optim", "setting", "data", "schedule", "tracker", "augment", "scale")


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def relative(path: Path) -> str:
    return path.relative_to(CONF).as_posix()


@cache  # tests read it only
def composed(*overrides: str, conf: Path = CONF) -> DictConfig:
    schema.register()
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def own_setting(task: str, scale: str) -> bool:
    return (CONF / "setting" / scale / f"{task}.yaml").exists()


@pytest.mark.parametrize("scale", names("scale"))
@pytest.mark.parametrize("task", names("task"))
def test_a_task_composes_at_each_scale_that_has_a_setting_for_it(task: str, scale: str) -> None:
    if not own_setting(task, scale):
        with pytest.raises(ConfigCompositionException, match=f"setting/{scale}/{task}"):
            composed(f"task={task}", f"scale={scale}")
        return
    cfg = composed(f"task={task}", f"scale={scale}")
    assert (cfg.task.name, cfg.scale.name) == (task, scale)
    missing = OmegaConf.missing_keys(cfg) - {"hydra"}
    assert not missing
    assert OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize(("number", "optim"), list(enumerate(names("optim"))))
def test_an_optimizer_composes_with_the_settings(number: int, optim: str) -> None:
    """With every sixteenth setting, each optimizer with others: between them, each setting with one or two."""
    schema.register()
    settings = [(task, scale) for scale in names("scale") for task in names("task") if own_setting(task, scale)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for task, scale in settings[number % 16 :: 16]:
            cfg = compose("config", overrides=[f"task={task}", f"scale={scale}", f"optim={optim}"])
            assert cfg.optim.name == optim
            assert cfg.optim.lr > 0
            assert cfg.optim.weight_decay >= 0
            assert cfg.optim._target_
            expected = f"{scale}/{task}/{optim}"
            known = optim in tuned_tables.names(scale, task)
            assert cfg.tuned.file == (expected if known else "none"), expected


@pytest.mark.parametrize("group", [g for g in ("data", "schedule", "augment", "tracker") if names(g)])
def test_the_other_groups_compose_under_their_files_names(group: str) -> None:
    for name in names(group):
        cfg = composed(f"{group}={name}")
        if (group, name) != ("augment", "default"):  # default leaves the name to the setting
            assert cfg[group].name == name


@pytest.mark.parametrize("path", sorted(CONF.glob("setting/*/*_randaug_mixup.yaml")), ids=relative)
def test_strong_augmentation_composes_where_a_task_has_it(path: Path) -> None:
    task, scale = path.stem.removesuffix("_randaug_mixup"), path.parent.name
    cfg = composed(f"task={task}", f"scale={scale}", "augment=randaug_mixup")
    assert cfg.augment.name == "randaug_mixup"
    assert cfg.augment.mixup > 0


@pytest.mark.parametrize(
    "path", sorted(path for group in EXPLAINED for path in (CONF / group).rglob("*.yaml")), ids=relative
)
def test_a_file_begins_with_a_command_that_uses_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[0].startswith("# @package"):
        lines = lines[1:]
    assert lines[0].startswith("# python run.py ")
    overrides = lines[0].removeprefix("# python run.py ").split()
    cfg = composed(*overrides)
    group = path.relative_to(CONF).parts[0]
    chosen = {
        "setting": lambda: f"{cfg.scale.name}/{cfg.task.name}",
        "optim": lambda: cfg.optim.name,
    }.get(group, lambda: cfg[group].name)()
    if group == "setting":
        own = path.relative_to(CONF / "setting").with_suffix("").as_posix()
        assert own in (chosen, f"{chosen}_{cfg.augment.name}")
    elif (group, path.stem) != ("augment", "default"):
        assert chosen == path.stem


@pytest.mark.parametrize("path", sorted(CONF.glob("setting/*/*.yaml")), ids=relative)
def test_a_setting_belongs_to_a_task(path: Path) -> None:
    tasks = names("task")
    assert path.stem in tasks or any(path.stem == f"{task}_{augment}" for task in tasks for augment in names("augment"))
    assert path.parent.name in names("scale")


@pytest.mark.parametrize(
    ("file", "line", "key"),
    [
        ("setting/embedded/vit_b16.yaml", "stesp: 3\n", "stesp"),
        ("task/vit_b16.yaml", "recpie: classification\n", "recpie"),
        ("schedule/cosine.yaml", "warmup: 3\n", "warmup"),
        ("tracker/none.yaml", "colour: red\n", "colour"),
    ],
)
def test_a_misspelt_key_in_a_file_is_refused(tmp_path: Path, file: str, line: str, key: str) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    with (conf / file).open("a", encoding="utf-8") as opened:
        opened.write("\n" + line)
    with pytest.raises(ConfigCompositionException, match=key):
        composed("task=vit_b16", "optim=lion", "tracker=none", conf=conf)


def test_values_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    path = conf / "setting" / "embedded" / "vit_b16.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("batch_size: 64", "batch_size: many"), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    with pytest.raises(ConfigCompositionException):
        composed("task=vit_b16", conf=conf)
