"""What a task learns from and what a data set holds, by every pair of them that there is."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipes import protocol
from recipes.errors import ConfigError
from recipes.settings import from_data

CONF = Path(protocol.__file__).parents[1] / "conf"
LEARNS_FROM = {
    "classification": "images with labels",
    "contrastive.recipe": "images with captions",
    "diffusion.class_conditional": "images with labels",
    "language.language_modelling": "text",
    "language.span_corruption": "text",
    "diffusion.text_to_image": "images with captions",
    "language.text_to_text": "texts with answers",
}
HOLDS = {
    "images with labels": ["mnist5k", "glyphs", "imagenet"],
    "images with captions": ["glyph_pairs", "image_text"],
    "text": ["stdlib", "text", "c4"],
    "texts with answers": ["docpairs", "glue"],
}


@pytest.mark.parametrize("family", LEARNS_FROM)
@pytest.mark.parametrize(("data", "holds"), [(name, kind) for kind, names in HOLDS.items() for name in names])
def test_a_task_takes_no_other_kind_of_data(family: str, data: str, holds: str) -> None:
    file = OmegaConf.merge({"options": {}, "path": None, "hub": None}, OmegaConf.load(CONF / "data" / f"{data}.yaml"))
    cfg = OmegaConf.create({"task": {"name": "a_task", "recipe": family}, "data": file, "model": {"args": {}}})
    if holds == LEARNS_FROM[family]:
        assert not [mistake for mistake in from_data.option_problems(cfg) if "learns from" in mistake]
        return
    with pytest.raises(ConfigError) as error:
        protocol.make(cfg)
    assert str(error.value) == f"data={data} holds {holds}; task=a_task learns from {LEARNS_FROM[family]}"


def test_a_family_that_lacks_a_method_is_refused_and_one_that_lacks_an_optional_one_is_not() -> None:
    required = {"__init__", "examples", "model", "initialise", "loss", "evaluate", "metrics", "blank_batch"}
    assert protocol.Recipe.__abstractmethods__ == required
    methods = dict.fromkeys(required, lambda *_: None)
    recipe = type("Recipe", (protocol.Recipe,), methods)(None)
    assert (recipe.targets({}), recipe.tokenizer, recipe.forward_methods) == (None, None, ())
    del methods["loss"]
    with pytest.raises(TypeError, match="loss"):
        type("Recipe", (protocol.Recipe,), methods)(None)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("classification", ("accuracy", "max")),
        ("language.language_modelling", ("perplexity", "min")),
        ("diffusion.class_conditional", ("frechet_own_features", "min")),
    ],
)
def test_metric_and_goal_are_known_from_the_class(module: str, expected: tuple[str, str]) -> None:
    recipe = protocol.recipe_class(module)
    assert (recipe.metric, recipe.goal) == expected
