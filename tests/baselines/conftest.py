from pathlib import Path

import pytest
import torch

OPTIM = Path(__file__).parents[2] / "conf" / "optim"


def pytest_generate_tests(metafunc):
    """A test that asks for `yaml_file` runs over every file of conf/optim."""
    if "yaml_file" in metafunc.fixturenames:
        files = sorted(path for path in OPTIM.glob("*.yaml") if path.stem != "program")  # has its decay inside
        metafunc.parametrize("yaml_file", files, ids=[file.stem for file in files])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
