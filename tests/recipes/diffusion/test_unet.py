"""The U-Nets: ADM's published sizes, what they are told and what they make of it."""

import pytest
import torch

from recipes import protocol
from recipes.diffusion.unet import image_unet, text_unet
from recipes.errors import ConfigError
from tests.recipes.conftest import composed

# Millions of parameters, as published (Dhariwal and Nichol 2021, table 4), and channels of the first level.
ADM = {"unet_64": (296, 192), "unet_128": (422, 256), "unet_256": (554, 256)}
SMALL = {"size": 16, "image_channels": 1, "channels": [16, 32], "norm_groups": 4, "head_width": 16}


@pytest.mark.parametrize(("task", "published", "first"), [(task, *sizes) for task, sizes in ADM.items()])
def test_parameters_are_adms_without_the_learned_variances(task: str, published: int, first: int) -> None:
    cfg = composed(f"task={task}", "scale=paper")
    with torch.device("meta"):
        count = sum(p.numel() for p in protocol.make(cfg).model().parameters())
    variances = 3 * (9 * first + 1)  # the last convolution's further three channels
    assert round((count + variances) / 1e6) == published


def with_weights(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.mark.parametrize("attention", [[], [8], [16, 8]])
def test_an_image_unet_sees_image_time_and_class(attention: list[int]) -> None:
    model = with_weights(image_unet(**SMALL, blocks=1, attention=attention, classes=10))
    z, t, label = torch.randn(4, 1, 16, 16), torch.tensor([1, 500, 500, 500]), torch.tensor([3, 3, 3, 4])
    z[1:] = z[0]
    answer = model(z, t, class_labels=label).sample
    assert answer.shape == z.shape
    assert torch.allclose(answer[1], answer[2], atol=1e-6)
    assert not torch.allclose(answer[0], answer[1], atol=1e-4)
    assert not torch.allclose(answer[2], answer[3], atol=1e-4)
    kinds = {type(module).__name__ for module in model.modules()}
    assert ("Attention" in kinds) == bool(attention)
    # BigGAN's way of halving and doubling: in a residual block, by no convolution of its own.
    assert sum(type(m).__name__ == "Downsample2D" for m in model.modules() if not getattr(m, "use_conv", False)) == 1


def test_a_time_step_scales_and_shifts() -> None:
    """Twice as many numbers from the embedding as channels: a scale and a shift each (ADM's adaptive normalisation)."""
    model = image_unet(**SMALL, blocks=1, classes=None)
    projections = {name: layer.out_features for name, layer in model.named_modules() if name.endswith("time_emb_proj")}
    assert projections["down_blocks.0.resnets.0.time_emb_proj"] == 2 * 16
    assert projections["mid_block.resnets.0.time_emb_proj"] == 2 * 32


def test_a_text_unet_reads_what_counts_and_nothing_else() -> None:
    model = with_weights(text_unet(**SMALL, blocks=1, attention=[8], text_width=12, cross_width=20))
    z, t, states = torch.randn(2, 1, 16, 16), torch.tensor([10, 20]), torch.randn(2, 5, 12)
    seen = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)

    def predict(read: torch.Tensor) -> torch.Tensor:
        return model(z, t, encoder_hidden_states=read, encoder_attention_mask=seen).sample

    before = predict(states)
    hidden, shown = states.clone(), states.clone()
    hidden[0, 3:] += 5
    shown[0, 2] += 5
    assert before.shape == z.shape
    assert torch.equal(before, predict(hidden))
    assert not torch.allclose(before[0], predict(shown)[0], atol=1e-6)
    assert torch.equal(before[1], predict(shown)[1])


def test_eager_attention_is_the_fused_one_but_for_rounding() -> None:
    sizes = {**SMALL, "blocks": 1, "attention": [8], "text_width": 12}
    fused, eager = text_unet(**sizes), text_unet(**sizes, eager_attention=True)
    eager.load_state_dict(with_weights(fused).state_dict())
    read = {
        "encoder_hidden_states": torch.randn(2, 5, 12),
        "encoder_attention_mask": torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool),
    }
    z, t = torch.randn(2, 1, 16, 16), torch.tensor([10, 20])
    with torch.no_grad():
        torch.testing.assert_close(eager.eval()(z, t, **read).sample, fused(z, t, **read).sample, atol=1e-5, rtol=1e-5)


def test_super_resolution_has_further_channels() -> None:
    model = text_unet(**SMALL, blocks=[1, 2], attention=[8], text_width=8, condition_channels=1)
    assert model.conv_in.in_channels == 2  # type: ignore[union-attr]
    assert model.conv_out.out_channels == 1  # type: ignore[union-attr]
    assert [len(block.resnets) for block in model.down_blocks] == [1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"attention": [12]}, "attention has 12, and the levels' resolutions are 16, 8"),
        ({"size": 15}, "size=15 cannot be halved 1 times"),
        ({"norm_groups": 5}, "channels has 16, which norm_groups=5 does not divide"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        image_unet(**{**SMALL, "blocks": 1, **changed})  # type: ignore[arg-type]


def test_a_text_that_nothing_would_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would read the text"):
        text_unet(**SMALL, blocks=1, attention=[], text_width=8)
    with pytest.raises(ConfigError, match="blocks has 3 levels and channels 2"):
        text_unet(**SMALL, blocks=[1, 1, 1], attention=[8], text_width=8)
