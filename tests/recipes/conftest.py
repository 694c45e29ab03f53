"""A run small enough to be done in a second, through the same config and code as a real one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from recipes.settings import schema

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "task=vit_b16",
    "tracker=none",
    "steps=20",
    "eval_every=10",
    "checkpoint_every=5",
    "log_every=5",
    "batch_size=16",
    "schedule.warmup_steps=4",
    "model.args.depth=1",
    "model.args.embed_dim=16",
    "model.args.num_heads=2",
]

# A BERT whose parts of a batch hide different numbers of tokens, in the place of the ViT.
TINY_BERT = [
    *(text for text in TINY if not text.startswith(("task=", "model.args"))),
    "task=bert_small",
    "precision=fp32",
    "data.options.context=32",
    "+data.options.max_files=60",
    "+data.options.vocab_size=300",
    "model.args.vocab_size=300",
    "model.args.max_position_embeddings=32",
    "model.args.hidden_size=16",
    "model.args.intermediate_size=16",
    "model.args.num_hidden_layers=1",
    "model.args.num_attention_heads=2",
]

# A GPT-2 of the same size.
TINY_GPT2 = [
    *(text for text in TINY_BERT if not text.startswith(("task=", "model.args"))),
    "task=gpt2_small",
    "model.args.vocab_size=300",
    "model.args.n_positions=32",
    "model.args.n_embd=16",
    "model.args.n_layer=1",
    "model.args.n_head=2",
]

Compose = Callable[..., DictConfig]


def composed(*overrides: str) -> DictConfig:
    """The config as run.py composes it."""
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.fixture
def tiny(tmp_path: Path) -> Compose:
    """Compose a tiny run that writes below the test's own folder."""

    return lambda *overrides: composed(*TINY, f"output_dir={tmp_path / 'outputs'}", *overrides)
