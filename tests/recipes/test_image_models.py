import timm
import torch

import recipes.image_models  # noqa: F401


def test_resnet_20_has_the_papers_size_and_cost() -> None:
    """0.27M parameters and 41 million multiply-adds (He et al. 2016, Table 6; counts of the zero-padded shortcuts)."""
    from torch.utils.flop_counter import FlopCounterMode

    model = timm.create_model("resnet20_cifar", num_classes=10)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 0.27
    with FlopCounterMode(display=False) as counter:
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert 40e6 < counter.get_total_flops() / 2 < 42e6
    assert sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in model.modules()) == 19


def test_it_learns_the_classes_and_channels_that_it_is_given() -> None:
    model = timm.create_model("resnet20_cifar", num_classes=7, in_chans=1).eval()
    image = torch.randn(3, 1, 32, 32)
    model(image).sum().backward()
    assert model(image).shape == (3, 7)
    assert all(p.grad is not None for p in model.parameters())
