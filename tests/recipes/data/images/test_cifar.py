import io
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recipes.data.images import cifar
from recipes.errors import ConfigError

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.integers(0, 256, (40, 32, 32, 3), np.uint8), RNG.integers(0, 256, (10, 32, 32, 3), np.uint8)
FINE, COARSE = np.arange(50) % 100, np.arange(50) % 20


def rows(images: np.ndarray) -> np.ndarray:
    """Images as CIFAR stores them: red, then green, then blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def ten(images: np.ndarray) -> np.ndarray:
    return (np.arange(len(images)) % 10).astype(np.uint8)


def binary10(root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    for number, part in enumerate(np.split(np.hstack([ten(TRAIN)[:, None], rows(TRAIN)]), 5), 1):
        part.tofile(folder / f"data_batch_{number}.bin")
    np.hstack([ten(TEST)[:, None], rows(TEST)]).tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join(f"name{n}" for n in range(10)) + "\n\n")
    return folder


def binary100(root: Path) -> Path:
    folder = root / "cifar-100-binary"
    folder.mkdir()
    for name, images, labels in (("train", TRAIN, FINE[:40]), ("test", TEST, FINE[40:])):
        both = np.stack([labels % 20, labels], 1).astype(np.uint8)
        np.hstack([both, rows(images)]).tofile(folder / f"{name}.bin")
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{n}" for n in range(100)))
    return folder


def parquet(root: Path) -> Path:
    for name, images in (("train", TRAIN), ("test", TEST)):
        encoded = []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "png")
            encoded.append({"bytes": file.getvalue(), "path": None})
        pd.DataFrame({"image": encoded, "label": ten(images).astype(int)}).to_parquet(root / f"{name}.parquet")
    return root


def class_folders(root: Path) -> Path:
    for name, images in (("train", TRAIN), ("test", TEST)):
        for number, image in enumerate(images):
            folder = root / name / f"class{number % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:02}.png")
    return root


def held(splits: dict) -> dict[bytes, int]:
    return {i.tobytes(): int(label) for s in splits.values() for i, label in zip(s.images, s.labels, strict=True)}


@pytest.mark.parametrize("write", [binary10, parquet, class_folders])
def test_each_format_holds_the_same_images_and_labels(write, tmp_path: Path) -> None:
    splits = cifar.load(path=str(write(tmp_path)), val_size=8)
    assert {name: len(split) for name, split in splits.items()} == {"train": 32, "val": 8, "test": 10}
    expected = {i.tobytes(): n % 10 for images in (TRAIN, TEST) for n, i in enumerate(images)}
    assert held(splits) == expected
    assert {i.tobytes() for i in splits["test"].images} == {i.tobytes() for i in TEST}


def test_the_folder_above_cifars_own_is_enough(tmp_path: Path) -> None:
    binary10(tmp_path)
    splits = cifar.load(path=str(tmp_path), val_size=8)
    assert splits["train"].class_names == tuple(f"name{n}" for n in range(10))
    again = cifar.load(path=str(tmp_path / "cifar-10-batches-bin"), val_size=8)
    assert {k: s.fingerprint() for k, s in splits.items()} == {k: s.fingerprint() for k, s in again.items()}


def test_cifar_100_has_its_fine_labels(tmp_path: Path) -> None:
    splits = cifar.load(path=str(binary100(tmp_path)), val_size=8)
    expected = {i.tobytes(): int(n) for i, n in zip([*TRAIN, *TEST], FINE, strict=True)}
    assert held(splits) == expected
    assert len(splits["train"].class_names) == 100


def pickled(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The version for Python, with torchvision's list of checksums set to these files'."""
    import hashlib

    from torchvision.datasets import CIFAR10

    folder = root / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    parts = zip(np.split(rows(TRAIN), 5), np.split(ten(TRAIN), 5), strict=True)
    train = [write(f"data_batch_{n}", {"data": d, "labels": lb.tolist()}) for n, (d, lb) in enumerate(parts, 1)]
    test = [write("test_batch", {"data": rows(TEST), "labels": ten(TEST).tolist()})]
    meta = write("batches.meta", {"label_names": [f"name{n}" for n in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta[1]})
    return folder


def test_the_version_for_python_equals_the_binary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = cifar.load(path=str(binary10(tmp_path)), val_size=8)
    python = cifar.load(path=str(pickled(tmp_path, monkeypatch)), val_size=8)
    assert {k: s.fingerprint() for k, s in binary.items()} == {k: s.fingerprint() for k, s in python.items()}


def test_a_changed_pickle_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pickled(tmp_path, monkeypatch)
    with (folder / "data_batch_3").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match="not a complete copy of CIFAR10: unpack it again"):
        cifar.load(path=str(folder), val_size=8)


def test_a_cut_file_and_other_sizes_are_refused_in_a_line(tmp_path: Path) -> None:
    folder = binary10(tmp_path)
    whole = (folder / "data_batch_2.bin").read_bytes()
    (folder / "data_batch_2.bin").write_bytes(whole[:-5])
    with pytest.raises(ConfigError, match="not a complete copy of CIFAR: unpack it again"):
        cifar.load(path=str(folder), val_size=8)
    (folder / "data_batch_2.bin").write_bytes(whole)
    with pytest.raises(ConfigError, match=r"data\.options\.val_size=40"):
        cifar.load(path=str(folder), val_size=40)
    other = class_folders(tmp_path / "other")
    Image.new("RGB", (48, 40)).save(other / "train" / "class3" / "zz.png")
    with pytest.raises(ConfigError, match="48x40 pixels"):
        cifar.load(path=str(other), val_size=8)
