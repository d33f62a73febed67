"""Images from files in the forms of CIFAR and Tiny-ImageNet, made here."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedsciml.problem import SiteError, load_cifar, load_tiny_imagenet


def pixels(n: int, seed: int, side: int = 32) -> np.ndarray:
    """Bytes [n, 3, side, side]."""
    shape = (n, 3, side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path: Path, images: np.ndarray, *labels: list[int]) -> None:
    """A file of CIFAR: for each image its labels, then its bytes."""
    rows = zip(*labels, images, strict=True)
    path.write_bytes(b"".join(bytes(own) + image.tobytes() for *own, image in rows))


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """CIFAR-10, of five files and one to test."""
    for k in (1, 2, 3, 4, 5):
        write(tmp_path / f"data_batch_{k}.bin", pixels(2, k), [k, 9])
    write(tmp_path / "test_batch.bin", pixels(1, 9), [7])
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\n\n")
    return tmp_path


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    """CIFAR-100."""
    write(tmp_path / "train.bin", pixels(3, 0), [19, 0, 1], [99, 0, 50])
    write(tmp_path / "test.bin", pixels(1, 1), [4], [42])
    (tmp_path / "fine_label_names.txt").write_text("apple\n")
    return tmp_path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny-ImageNet, of two classes; lossless files, one of them grey."""
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n01\tfish, goldfish\nn77\tother\n")
    for k, wnid in enumerate(("n01", "n02")):
        folder = tmp_path / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for j, image in enumerate(pixels(2, k, 64)):
            shown = Image.fromarray(image.transpose(1, 2, 0))
            shown.save(folder / f"{wnid}_{j}.JPEG", "PNG")
    folder = tmp_path / "val" / "images"
    folder.mkdir(parents=True)
    Image.fromarray(pixels(1, 5, 64)[0, 0]).save(folder / "val_0.JPEG", "PNG")
    (tmp_path / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn01\t0\t0\t9\t9\n"
    )
    return tmp_path


def test_cifar_10_is_read_file_by_file(ten: Path) -> None:
    found = load_cifar(ten)
    assert found.labels.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert found.images.dtype == torch.float32
    for k in (1, 2, 3, 4, 5):
        own = found.images[2 * k - 2 : 2 * k].view(2, 3, 32, 32) * 255
        assert np.array_equal(own.round().numpy(), pixels(2, k))
    assert found.names == ("airplane", "automobile")
    test = load_cifar(str(ten), test=True, dtype=torch.float64)
    assert test.labels.tolist() == [7]
    assert float(test.images[0, 5] * 255) == pytest.approx(pixels(1, 9).ravel()[5])
    assert repr(found) == "10 images of 3072 numbers"


def test_cifar_100_has_coarse_and_fine_classes(hundred: Path) -> None:
    fine, coarse = load_cifar(hundred), load_cifar(hundred, coarse=True)
    assert fine.labels.tolist() == [99, 0, 50]
    assert coarse.labels.tolist() == [19, 0, 1]
    assert torch.equal(fine.images, coarse.images)
    assert np.array_equal(
        (fine.images * 255).round().numpy(), pixels(3, 0).reshape(3, -1)
    )
    assert load_cifar(hundred, test=True).labels.tolist() == [42]
    assert (fine.names, coarse.names) == (("apple",), ())


def test_tiny_imagenet_is_read_in_the_order_of_its_classes(tiny: Path) -> None:
    train, test = load_tiny_imagenet(tiny), load_tiny_imagenet(tiny, test=True)
    assert train.labels.tolist() == [0, 0, 1, 1]  # n02, n01
    expected = np.concatenate([pixels(2, 1, 64), pixels(2, 0, 64)]).reshape(4, -1)
    assert np.array_equal((train.images * 255).round().numpy(), expected)
    assert test.labels.tolist() == [1]
    grey = test.images.view(3, 64, 64) * 255
    assert np.array_equal(grey.round().numpy(), pixels(1, 5, 64)[0, [0, 0, 0]])
    assert train.names == ("n02", "fish, goldfish")


def test_a_jpeg_is_read_as_it_looks(tiny: Path) -> None:
    ramp = np.broadcast_to(
        np.arange(64, dtype=np.uint8)[:, None, None] * 4, (64, 64, 3)
    )
    path = tiny / "train" / "n02" / "images" / "n02_0.JPEG"
    Image.fromarray(ramp.copy()).save(path, quality=95)
    found = load_tiny_imagenet(tiny).images[0].view(3, 64, 64) * 255
    assert (
        float((found - torch.from_numpy(ramp.transpose(2, 0, 1).copy())).abs().max())
        < 4
    )


def test_the_python_version_is_refused_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": 0}))
    with pytest.raises(SiteError, match="python version .* cifar-10-binary.tar.gz"):
        load_cifar(tmp_path)
    (tmp_path / "data_batch_1").rename(tmp_path / "train")
    with pytest.raises(SiteError, match="cifar-100-binary.tar.gz"):
        load_cifar(tmp_path, test=True)


def test_files_of_cifar_that_are_not_whole_are_refused(ten: Path) -> None:
    with pytest.raises(SiteError, match="has no coarse classes"):
        load_cifar(ten, coarse=True)
    (ten / "data_batch_2.bin").unlink()
    with pytest.raises(FileNotFoundError, match="no file data_batch_2.bin in folder"):
        load_cifar(ten)
    write(ten / "data_batch_2.bin", pixels(2, 0), [1, 10])
    with pytest.raises(SiteError, match="Row 2 of file data_batch_2.bin has a class"):
        load_cifar(ten)
    for wrong in (b"", b"\0" * 3074):
        (ten / "data_batch_2.bin").write_bytes(wrong)
        with pytest.raises(
            SiteError, match=f"has {len(wrong)} bytes, .* of 3073 bytes"
        ):
            load_cifar(ten)
    with pytest.raises(FileNotFoundError, match="no folder elsewhere with the binary"):
        load_cifar(ten / "elsewhere")
    (ten / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match="no file test_batch.bin"):
        load_cifar(ten, test=True)


def test_a_tiny_imagenet_that_is_not_whole_is_refused(tiny: Path) -> None:
    images, annotations = tiny / "val" / "images", tiny / "val" / "val_annotations.txt"
    Image.fromarray(pixels(1, 0)[0, 0]).save(images / "val_0.JPEG")
    with pytest.raises(SiteError, match="val_0.JPEG has 32 x 32 pixels; .* 64 x 64"):
        load_tiny_imagenet(tiny, test=True)
    (images / "val_0.JPEG").write_bytes(b"no image")
    with pytest.raises(SiteError, match="Image val_0.JPEG cannot be read"):
        load_tiny_imagenet(tiny, test=True)
    (images / "val_0.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match="no file val_0.JPEG in folder images"):
        load_tiny_imagenet(tiny, test=True)
    annotations.write_text("val_0.JPEG\tn99\t0\n")
    with pytest.raises(SiteError, match=r"Row 1 of val_annotations.txt .* wnids.txt"):
        load_tiny_imagenet(tiny, test=True)
    annotations.write_text("")
    with pytest.raises(
        SiteError, match="no images: val/val_annotations.txt names none"
    ):
        load_tiny_imagenet(tiny, test=True)
    annotations.unlink()
    with pytest.raises(FileNotFoundError, match="no file val_annotations.txt"):
        load_tiny_imagenet(tiny, test=True)
    (tiny / "wnids.txt").write_text("n03\n")
    with pytest.raises(SiteError, match="train/WNID/images/ hold none"):
        load_tiny_imagenet(tiny)
    (tiny / "wnids.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no file wnids.txt"):
        load_tiny_imagenet(tiny)
