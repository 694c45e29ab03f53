"""Which class steps which parameter, what the record and a checkpoint hold of it, and what is refused."""

import copy
import io

import pytest
import torch
from torch import nn

from recipes.errors import ConfigError
from recipes.runs import build
from recipes.settings import optimizer_arguments, validation
from recipes.training.param_groups import Role, parameter_groups, parameters_of
from tests.recipes.conftest import composed

ROUTED = ["muon", "muon_lion", "lion_muon"]


class Tiny(nn.Module):
    """One parameter of each role, as timm and transformers would have them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2)
        self.tokens = nn.Embedding(7, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 4))
        self.mlp = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)

    def get_classifier(self) -> nn.Module:
        return self.head


def routed(name: str, model: nn.Module, *overrides: str) -> torch.optim.Optimizer:
    optim = composed("task=vit_b16", f"optim={name}", "optim.lr=0.01", "optim.weight_decay=0.1", *overrides).optim
    return build.optimizer_factory(optim)(parameter_groups(model, "weights", optim.weight_decay))


def names_of(model: nn.Module, params: list[nn.Parameter]) -> set[str]:
    return {name for name, p in model.named_parameters() if any(p is other for other in params)}


def gradients(model: nn.Module, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=random)


def test_settings_know_every_role() -> None:
    assert tuple(role.key for role in Role) == optimizer_arguments.ROLES


@pytest.mark.parametrize("name", ROUTED)
def test_matrices_take_one_class_and_all_others_another(name: str) -> None:
    torch.manual_seed(0)
    model = Tiny()
    assert {parameter.role for parameter in parameters_of(model)} == set(Role)
    optimizer = routed(name, model)
    matrices, others = optimizer.param_groups[0], optimizer.param_groups[1:]
    assert names_of(model, matrices["params"]) == {"mlp.weight"}
    everything = {name for name, _ in model.named_parameters()}
    assert set.union(*(names_of(model, group["params"]) for group in others)) == everything - {"mlp.weight"}
    ratio = 0.2 if name == "muon_lion" else 1.0
    assert [group["lr"] for group in others] == pytest.approx([0.01 * ratio] * 2)
    assert [group["lr"] * group["weight_decay"] for group in others] == pytest.approx([0.001, 0.0])


@pytest.mark.parametrize("name", ROUTED)
def test_it_goes_on_from_a_file_to_the_same_bits(name: str) -> None:
    torch.manual_seed(0)
    model = Tiny()
    optimizer = routed(name, model)
    for seed in range(7):
        gradients(model, seed)
        optimizer.step()
    other, file = copy.deepcopy(model), io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = routed(name, other, "optim.lr=0.5")
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(7, 14):
        for m, o in ((model, optimizer), (other, resumed)):
            gradients(m, seed)
            o.step()
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    kept = [value.dtype for value in resumed.state[other.head.weight].values() if torch.is_tensor(value) and value.ndim]
    assert kept == ([torch.bfloat16] if name == "muon_lion" else [torch.float32] * 2), "types outlive a checkpoint"


def test_a_ratio_is_a_setting() -> None:
    optimizer = routed("muon", Tiny(), "optim.routes.adamw.lr_ratio=0.5")
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.005, 0.005])


def test_a_fixed_rate_stays_whatever_the_main_one_is() -> None:
    optimizer = routed("muon", Tiny(), "+optim.routes.adamw.lr=2", "~optim.routes.adamw.lr_ratio")
    for group, lr in zip(optimizer.param_groups, [0.01, 2, 2], strict=True):
        assert group["lr"] == pytest.approx(lr)
        assert group["lr"] * group["weight_decay"] == pytest.approx(0 if group is optimizer.param_groups[2] else 1e-3)


def test_a_fixed_rate_needs_a_main_one() -> None:
    fixed = ["+optim.routes.adamw.lr=2", "~optim.routes.adamw.lr_ratio", "optim.lr=0", "tracker=none"]
    (line,) = validation.problems(composed("task=vit_b16", "optim=muon", *fixed))
    assert line.startswith("optim.lr=0 must be above 0: the decay of optim.routes.adamw follows")


def test_a_route_that_is_null_is_none() -> None:
    everything = "optim.roles=[matrix,convolution,embedding,head,vector,position]"
    with pytest.raises(ConfigError, match="Muon only supports 2D parameters"):
        routed("muon", Tiny(), "optim.routes.adamw=null", everything)
    with pytest.raises(ConfigError, match=r"has no rule for parameters of role convolution: add it to optim.roles=\["):
        routed(
            "muon",
            Tiny(),
            "optim.routes.adamw=null",
            "+optim.routes.other={_target_: torch.optim.AdamW, roles: [head], lr: 1}",
        )


def test_groups_cannot_be_added_later() -> None:
    with pytest.raises(RuntimeError, match="takes all its parameters when it is made"):
        routed("muon", Tiny()).add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def test_a_model_without_a_matrix_is_refused_in_a_line() -> None:
    with pytest.raises(ConfigError) as error:
        routed("muon", nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    assert str(error.value) == (
        "optim=muon has nothing to step by its own rule: the model has no parameter of role matrix, only convolution, "
        "vector; choose another optim="
    )


def test_a_role_without_a_rule_is_refused_with_what_to_type() -> None:
    with pytest.raises(ConfigError) as error:
        routed("muon", Tiny(), "optim.routes.adamw.roles=[convolution,head,vector,position]")
    assert str(error.value) == (
        "optim=muon has no rule for parameters of role embedding: add it to optim.roles=[...] or "
        "optim.routes.adamw.roles=[...]"
    )


def test_a_class_that_cannot_take_a_role_says_so_in_a_line() -> None:
    overrides = ["optim.roles=[matrix,convolution]", "optim.routes.adamw.roles=[embedding,head,vector,position]"]
    with pytest.raises(ConfigError, match=r"^optim=muon: Muon only supports 2D parameters[^\n]*$"):
        routed("muon", Tiny(), *overrides)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.routes.adamw.lr_ratio=0", "optim.routes.adamw.lr_ratio=0 must be a finite number above 0"),
        ("optim.roles=[matrices]", "optim.roles=[matrices] must name some of matrix, convolution"),
        ("optim.roles=[matrix,head]", "optim.routes.adamw.roles names head, and so does optim.roles"),
        ("+optim.routes.adamw.lr=1", "optim.routes.adamw has lr and lr_ratio: it takes one, a fixed learning rate or"),
        ("+optim.routes.adamw.weight_decay=1", "optim.routes.adamw.weight_decay follows from optim.weight_decay: "),
        ("~optim.routes.adamw.lr_ratio", "optim.routes.adamw.lr_ratio=null must be a finite number above 0: its lr"),
        ("+optim.routes.adamw.beta=1", "optim.routes.adamw has no argument beta; it takes lr, betas"),
        ("optim.routes.adamw.eps=x", "optim.routes.adamw.eps=x must be a finite number of at least 0"),
        ("optim.routes.adamw=null", "optim.roles=[matrix] leaves the other roles to no class"),
        ("+optim.lr_ratio=3", "optim.lr_ratio has no effect"),
        ("+optim.routes.adamw.schedule=constant", "optim.routes.adamw.schedule has no effect"),
        ("optim.routes=3", "optim.routes must hold, under a name for each, a class with its roles and lr_ratio"),
        ("shard=true", "optim=muon does not take shard=true: it orthogonalizes whole matrices; set shard=false"),
        ("+optim.schedule=flat", "optim.schedule=flat is unknown; known: cosine, linear, constant, rsqrt"),
    ],
)
def test_a_mistake_has_a_line_before_torch_is_imported(override: str, line: str) -> None:
    (result,) = validation.problems(composed("task=vit_b16", "optim=muon", override, "tracker=none"))
    assert result.startswith(line)


@pytest.mark.parametrize(
    ("name", "matrix", "vector"),
    [  # bytes an element of a 64 x 32 matrix and of a vector, as the papers and the files say
        ("adamw", 8, 8),
        ("muon", 4, 8),
        ("muon_lion", 4, 2),
        ("lion_muon", 4, 8),
        ("soap", 8 + 2 * 4 * (64**2 + 32**2) / (64 * 32), 8),
        ("schedule_free_adamw", 8, 8),
        ("ademamix", 12, 12),
        ("mars", 12, 12),
        ("adopt", 8, 8),
        ("kron", 4 + 4 * (64**2 + 32**2) / (64 * 32), 8),
        ("prodigy", 16, 16),
        ("cautious_lion", 2, 2),
        ("lion_cautious_decay", 2, 2),
        ("lion_corrected_decay", 2, 2),
    ],
)
def test_the_state_has_the_bytes_of_the_paper(name: str, matrix: float, vector: float) -> None:
    from recipes.distributed.devices import state_bytes
    from recipes.training.param_groups import set_training

    params = [nn.Parameter(torch.randn(64, 32)), nn.Parameter(torch.randn(48))]
    optimizer = build.optimizer_factory(composed("task=vit_b16", f"optim={name}").optim)(params)
    set_training(optimizer, True)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert state_bytes(optimizer) == matrix * 64 * 32 + vector * 48
