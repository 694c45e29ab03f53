"""The role of every parameter of every model, held against a table that a person has read."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from recipes import protocol
from recipes.training.param_groups import DECAYING, Role, parameter_groups, parameters_of, table
from tests.recipes.conftest import ROOT, composed

# Names with * for a number, below the role that each has, below the tasks whose models have them.
KNOWN = yaml.safe_load((Path(__file__).parent / "parameter_roles.yaml").read_text())
EMBEDDED = sorted(path.stem for path in (ROOT / "conf/setting/embedded").glob("*.yaml") if "randaug" not in path.stem)
GPU = ["gpt2_speed_run"]  # that are no other model of a smaller or larger size
PAPER = ["basic", "vit_b16", "coatnet_3", "resnet50", "gpt2_124m", "bert_small", "t5_base", "lit_b16_b", "unet_64"]

SCALES = [
    (task, scale) for scale, tasks in {"embedded": EMBEDDED, "gpu": GPU, "paper": PAPER}.items() for task in tasks
]


def model_of(*overrides: str) -> nn.Module:
    with torch.device("meta"):
        return protocol.make(composed(*overrides, "tracker=none")).model()


def general(name: str) -> str:
    return re.sub(r"\b\d+\b", "*", name)


def known_roles(task: str) -> set[tuple[str, str]]:
    (tables,) = [entry["roles"] for entry in KNOWN if task in entry["tasks"]]
    return {(name, role) for role, names in tables.items() for name in names}


@pytest.mark.parametrize(("task", "scale"), SCALES)
def test_every_parameter_has_the_role_of_the_table(task: str, scale: str) -> None:
    model = model_of(f"task={task}", f"scale={scale}")
    known = known_roles(task)
    roles = {parameter.name: parameter.role for parameter in parameters_of(model)}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(roles)
    wrong = {name: role for name, role in roles.items() if (general(name), role) not in known}
    assert not wrong


def test_a_tower_has_the_roles_of_the_same_model_trained_alone() -> None:
    """BASIC's image tower is a CoAtNet, LiT's text tower a BERT-like encoder."""
    alone = {general(p.name): p.role for p in parameters_of(model_of("task=coatnet_3", "scale=paper"))}
    tower = {
        general(p.name).removeprefix("image."): p.role for p in parameters_of(model_of("task=basic", "scale=paper"))
    }
    shared = set(alone) & set(tower)
    assert "stages.*.blocks.*.attn.rel_pos.relative_position_bias_table" in shared
    assert {name: alone[name] for name in shared} == {name: tower[name] for name in shared}


class Inner(nn.Module):
    """Names what should not decay, in timm's way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(2, 3))
        self.experts = nn.Parameter(torch.zeros(4, 2, 3))

    def no_weight_decay(self) -> set[str]:
        return {"gate", "nothing"}


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.mixer = nn.MultiheadAttention(4, 2)
        self.register_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_emb = nn.Embedding(3, 4)
        self.tokens = nn.Embedding(7, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.tied = nn.Linear(4, 7)
        self.tied.weight = self.tokens.weight


def test_any_part_of_a_model_is_asked() -> None:
    roles = {p.name: p.role for p in parameters_of(Outer())}
    assert roles == {
        "inner.gate": Role.POSITION,
        "inner.experts": Role.MATRIX,
        "mixer.in_proj_weight": Role.MATRIX,
        "mixer.in_proj_bias": Role.VECTOR,
        "mixer.out_proj.weight": Role.MATRIX,
        "mixer.out_proj.bias": Role.VECTOR,
        "register_token": Role.POSITION,
        "pos_emb.weight": Role.POSITION,
        "tokens.weight": Role.EMBEDDING,
        "tied.bias": Role.VECTOR,
    }


def test_the_groups_are_what_the_roles_say() -> None:
    model = Outer()
    decayed, rest = parameter_groups(model, "weights", 0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    expected = [id(p.value) for p in parameters_of(model) if p.role in DECAYING["weights"]]
    assert [id(p) for p in decayed["params"]] == expected
    (everything,) = parameter_groups(model, "all", 0.1)
    assert len(everything["params"]) == len(decayed["params"]) + len(rest["params"])


def test_the_table_counts_every_parameter_once() -> None:
    model = Outer()
    rows = [line.split() for line in table(model, "weights").splitlines()[2:]]
    assert sum(int(row[2].replace(",", "")) for row in rows) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert {row[0]: row[3] for row in rows} == {"matrix": "yes", "embedding": "yes", "vector": "no", "position": "no"}


class Affine(nn.Module):
    """Names and shapes of other libraries' models: ResMLP's norm, and OPT's and DeBERTa's embeddings of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, 8))
        self.mixing = nn.Parameter(torch.ones(1, 8, 8))
        self.embed_positions = nn.Embedding(4, 8)
        self.rel_embeddings = nn.Embedding(4, 8)
        self.narrow = nn.Linear(8, 1)


def test_scales_with_axes_of_one_are_vectors_and_other_names_of_positions_are_known() -> None:
    roles = {parameter.name: parameter.role for parameter in parameters_of(Affine())}
    assert roles == {
        "alpha": Role.VECTOR,
        "mixing": Role.MATRIX,
        "embed_positions.weight": Role.POSITION,
        "rel_embeddings.weight": Role.POSITION,
        "narrow.weight": Role.MATRIX,
        "narrow.bias": Role.VECTOR,
    }
