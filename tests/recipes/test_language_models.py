"""The GPT of the speed-run against transformers' NanoChat, which has its parts with other constants, and its log."""

import math

import pytest
import torch
from torch import nn

from recipes.language_models import SpeedRunGPT, SpeedRunGPTConfig
from recipes.training import schedule
from tests.recipes.test_gpu_scale import composed

WIDTH, HEAD, LAYERS, WORDS = 32, 8, 3, 50
SAME = {  # NanoChat's name of each part
    "embedding": "model.embed_tokens",
    "head": "lm_head",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "expand": "mlp.fc1",
    "contract": "mlp.fc2",
    "blocks.": "model.layers.",
}


def small(**settings: int) -> SpeedRunGPT:
    sizes = {"vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "head_dim": HEAD}
    return SpeedRunGPT(SpeedRunGPTConfig(**(sizes | settings)))


def randomised(model: nn.Module) -> None:
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(0.5 + torch.rand(p.shape, generator=random, dtype=p.dtype))
            elif not name.endswith(("expand.bias", "contract.bias", "head.bias")):  # NanoChat has none of these
                p.copy_(torch.randn(p.shape, generator=random, dtype=p.dtype) * 0.5)


def nanochat(ours: SpeedRunGPT) -> nn.Module:
    """NanoChat with the same weights and the speed-run's numbers; norms' gains are factors of the matrices behind."""
    module = pytest.importorskip("transformers.models.nanochat")
    sizes = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": WIDTH // HEAD, "attention_bias": True, "rms_norm_eps": torch.finfo().eps}
    theirs = module.NanoChatForCausalLM(
        module.NanoChatConfig(**sizes, **heads, final_logit_softcapping=None, pad_token_id=None)
    )
    state = {}
    for name, value in ours.state_dict().items():
        if "norm" in name or name == "head.bias" or name.endswith(("expand.bias", "contract.bias")):
            continue
        for part, renamed in SAME.items():
            name = name.replace(part, renamed)
        state[name] = value.clone()
    for i, block in enumerate(ours.blocks):
        for part in ("q_proj", "k_proj", "v_proj"):
            state[f"model.layers.{i}.self_attn.{part}.weight"] *= block.attention_norm.weight
        state[f"model.layers.{i}.mlp.fc1.weight"] *= block.mlp_norm.weight
    state["lm_head.weight"] *= ours.output_norm.weight
    theirs.load_state_dict(state)
    for layer in theirs.model.layers:
        layer.self_attn.scaling = 0.12
    turning = [1024 ** -(i / (HEAD // 4 - 1)) for i in range(HEAD // 4)]
    theirs.model.rotary_emb.inv_freq = torch.tensor(turning + [0.0] * (HEAD // 4))
    return theirs


@torch.no_grad()
def test_it_computes_what_nanochat_computes() -> None:
    ours = small()
    randomised(ours)
    ours.embedding_norm.weight.fill_(1.0)  # no matrix follows it alone
    tokens = torch.randint(0, WORDS, (2, 20), generator=torch.Generator().manual_seed(1))
    plain = nanochat(ours)(tokens).logits
    assert plain.abs().max() > 5
    expected = 15 * plain / (plain**2 + 15**2).sqrt()
    torch.testing.assert_close(ours(tokens).logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_token_depends_on_those_before_it_and_on_their_order() -> None:
    model = small()
    randomised(model)
    tokens = torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 8] = 40
    before, after = model(tokens).logits, model(changed).logits
    torch.testing.assert_close(before[:, :8], after[:, :8], rtol=0, atol=0)
    assert (before[:, 8:] != after[:, 8:]).any(2).all()
    swapped = tokens.clone()
    swapped[0, [2, 3]] = tokens[0, [3, 2]]
    assert not torch.allclose(before[:, 8:], model(swapped).logits[:, 8:])


def test_it_has_the_published_size_and_begins_at_the_published_loss() -> None:
    """Step 0 of every log there: 10.82584, which is what a model that knows nothing loses on 50,304 tokens."""
    with torch.device("meta"):
        model = SpeedRunGPT(SpeedRunGPTConfig())
    matrices = 12 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 50304 * 768
    vectors = 12 * (5 * 768 + 3072 + 2 * 768) + 50304 + 2 * 768
    assert sum(p.numel() for p in model.parameters()) == matrices + vectors
    tokens = torch.arange(8)[None]
    loss = nn.functional.cross_entropy(small(vocab_size=50304)(tokens).logits[0], tokens[0])
    assert loss.item() == pytest.approx(10.82584, abs=1e-5)
    assert math.log(50304) == pytest.approx(10.82584, abs=1e-5)


def test_its_first_weights_are_those_of_the_speed_run() -> None:
    torch.manual_seed(0)
    weights = dict(small(hidden_size=256, vocab_size=2000).named_parameters())
    assert weights["embedding.weight"].std().item() == pytest.approx(1, rel=0.01)
    assert weights["blocks.1.expand.weight"].std().item() == pytest.approx((0.33 / 256) ** 0.5, rel=0.01)
    assert weights["blocks.1.attention.key.weight"].std().item() == pytest.approx((0.33 / 256) ** 0.5, rel=0.01)
    zero = {name for name, p in weights.items() if not p.any()}
    assert zero == {
        name for name in weights if name.endswith(".bias") or "output.weight" in name or "contract.weight" in name
    } | {"head.weight"}
    assert all((p == 1).all() for name, p in weights.items() if "norm.weight" in name)


@pytest.mark.parametrize("sizes", [{"hidden_size": 36}, {"hidden_size": 36, "head_dim": 6}])
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be a multiple of head_dim=\d, and that a multiple of 4"):
        small(**sizes)


def test_its_schedule_is_the_speed_runs() -> None:
    """Its formula, warm-up and cooldown of 70% of the steps, at every step of AdamW's run."""
    cfg = composed("task=gpt2_speed_run", "optim=adamw")
    rates = schedule.Schedule(**cfg.schedule)
    for step in range(cfg.steps):
        left = (1 - step / 5625) / 0.7 if step / 5625 >= 0.3 else 1.0
        expected = min(1.0, (step + 1) / 250) * left
        assert schedule.factor(step, cfg.steps, rates) == pytest.approx(expected, rel=1e-3, abs=1e-6)
