"""A cache of its own for the Hugging Face data sets of each test, and class folders of images."""

import datasets
import pytest

from tests.recipes.data.images.image_files import write_folders


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path / "photos")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder
