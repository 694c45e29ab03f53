"""Pictures as bytes against torchvision's own conversion, and weights that lie channels last."""

from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms

from lion import Lion
from lion.kernels import cpu
from recipes import protocol
from recipes.training.execution.device_layout import Placement, is_convolutional, match
from tests.recipes.conftest import composed

CPU = torch.device("cpu")


def test_bytes_become_what_torchvision_makes_of_a_picture_bit_for_bit() -> None:
    values = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(3, 16, 16)
    picture = Image.fromarray(values.permute(1, 2, 0).numpy())
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])(picture)
    placed = Placement(CPU)({"image": values[None], "label": torch.tensor([7])})
    assert torch.equal(placed["image"][0], expected)
    assert placed["image"].dtype == torch.float32
    assert torch.equal(placed["label"], torch.tensor([7]))


def test_what_is_a_number_already_stays_as_it_is() -> None:
    batch = {"image": torch.randn(2, 1, 4, 4), "tokens": torch.arange(6).view(2, 3)}
    placed = Placement(CPU)(batch)
    assert all(placed[name] is value for name, value in batch.items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vit_tiny_patch16_224", False), ("mixer_s16_224", False), ("resnet18", True), ("coatnet_0_224", True)],
)
def test_patches_alone_make_no_convolutional_model(name: str, expected: bool) -> None:
    with torch.device("meta"):
        assert is_convolutional(timm.create_model(name)) is expected
        assert is_convolutional(nn.Linear(3, 3)) is False


def trained(channels_last: bool, reloaded: bool = False) -> tuple[nn.Module, Lion, list[float]]:
    """A ResNet after three steps of Lion; its state goes through a checkpoint that knows no layout, if asked for."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=4).eval()  # no statistics of batches
    if channels_last:
        model.to(memory_format=torch.channels_last)
    place = Placement(CPU, channels_last)
    optimizer = Lion(model.parameters(), lr=1e-4, weight_decay=0.1)
    losses = []
    for step in range(3):
        if step == 2 and reloaded:
            state = optimizer.state_dict()
            for held in state["state"].values():
                held["exp_avg"] = held["exp_avg"].contiguous()
            optimizer.load_state_dict(state)
            match(optimizer)
        image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        batch = place({"image": image})
        assert batch["image"].is_contiguous(memory_format=torch.channels_last) is channels_last
        loss = model(batch["image"]).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        if step < 2:
            optimizer.zero_grad()
    return model, optimizer, losses


@pytest.mark.parametrize("reloaded", [False, True])
def test_channels_last_changes_no_result_and_every_weight_keeps_its_kernel(reloaded: bool) -> None:
    _, _, expected = trained(channels_last=False)
    model, optimizer, losses = trained(channels_last=True, reloaded=reloaded)
    assert losses == pytest.approx(expected, rel=1e-4)
    params = [p for p in model.parameters() if p.grad is not None]
    assert any(not p.is_contiguous() for p in params)
    states = [optimizer.state[p] for p in params]
    assert all(state["exp_avg"].stride() == p.stride() for p, state in zip(params, states, strict=True))
    _, left_out = cpu.launch.sorted_by_kind(params, [p.grad for p in params], states, optimizer.param_groups[0])
    assert left_out == []


class Transfers(TorchDispatchMode):
    """Operations that take a tensor from the CPU to the device: the meta device, which has no values to ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        from_cpu = any(isinstance(given, torch.Tensor) and given.device == CPU for given in args)
        if from_cpu and isinstance(result, torch.Tensor) and result.is_meta:
            self.found.append(str(func))
        return result


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("vit_b16", []),
        ("resnet50", []),
        ("gpt2_small", ["~model.args.attn_implementation"]),
        ("bert_small", []),
        ("unet_64", []),
        ("t2i_64", []),
    ],
)
def test_a_step_neither_copies_to_the_device_nor_asks_it_for_a_value(task: str, more: list[str]) -> None:
    """But for the first step, which copies tables."""
    recipe = protocol.make(composed(f"task={task}", *more))
    with torch.device("meta"):
        model, batch = recipe.model().train(), recipe.blank_batch(4)
    recipe.loss(model, batch)["loss"].backward()
    with Transfers() as transfers:
        recipe.loss(model, batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert transfers.found == []
