"""What a task learns from and what a data set holds, by every pair of them that there is."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipes import protocol
from recipes.errors import ConfigError

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
    said = ""
    try:
        protocol.make(cfg)
    except Exception as error:  # data that fit get further, and most families then miss their model
        said = str(error) if isinstance(error, ConfigError) else ""
    refused = f"data={data} holds {holds}; task=a_task learns from {LEARNS_FROM[family]}"
    assert (said == refused) == (holds != LEARNS_FROM[family])
