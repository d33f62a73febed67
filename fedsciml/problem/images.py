"""Images and their classes from the users' own files: CIFAR, Tiny-ImageNet.

The files are read as they are published, and only if nothing in them is run: the
"python version" of CIFAR is a pickle, which is refused. Nothing is downloaded.

Errors name file and row and hold no value: see ``SiteError``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedsciml.problem.folder import MissingFileError
from fedsciml.problem.outward import SiteError

BATCHES = 5
"""Files that CIFAR-10 has to train on."""

CIFAR = (3, 32, 32)
TINY = (3, 64, 64)
"""Channels (red, green, blue), height and width, in which the pixels of an image are
listed: channel by channel, row by row."""


class Images(NamedTuple):
    """Images and their classes; equal to itself alone, as it holds tensors.

    Attributes:
        images: Pixels from 0 to 1, shape [n, channels * height * width].
        labels: Numbers of the classes from 0, a long tensor [n].
        names: Of the classes, as far as a file names them; else empty.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        n, d = self.images.shape
        return f"{n} images of {d} numbers"


def load_cifar(
    folder: Path | str,
    test: bool = False,
    coarse: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Images:
    """CIFAR-10 or CIFAR-100 from the files of its binary version.

    CIFAR-10 has ``data_batch_1.bin`` to 5 and ``test_batch.bin``: a byte for the
    class and 3072 for the image, again and again. CIFAR-100 has ``train.bin`` and
    ``test.bin``, with two bytes for the classes: first the coarse one, of 20, then the
    fine one, of 100 (A. Krizhevsky, 2009; www.cs.toronto.edu/~kriz/cifar.html).

    Args:
        folder: With these files, unpacked.
        test: Whether the images for testing are read; else those for training.
        coarse: Whether the classes of CIFAR-100 are the coarse ones.
        dtype: Of the pixels.

    Returns:
        Images [n, 3072] of shape ``CIFAR``, and their classes.

    Raises:
        FileNotFoundError: If the folder or a file is not there.
        ValueError: If there is the python version alone, a file does not hold whole
            images, or a class that there is none of.
    """
    folder = _folder(folder, "the binary version of CIFAR")
    hundred = (folder / "train.bin").exists() or (folder / "test.bin").exists()
    if hundred:
        files = [folder / ("test.bin" if test else "train.bin")]
    elif test:
        files = [folder / "test_batch.bin"]
    else:
        files = [folder / f"data_batch_{k + 1}.bin" for k in range(BATCHES)]
    if coarse and not hundred:
        raise SiteError(
            f"CIFAR-10 in folder {folder.name} has no coarse classes; leave coarse out."
        )
    for path in files:
        if not path.is_file():
            raise _missing(path)
    classes = 10 if not hundred else 20 if coarse else 100
    parts = [_batch(path, 2 if hundred else 1, coarse, classes) for path in files]
    labels = torch.cat([label for label, _ in parts])
    images = torch.cat([image for _, image in parts]).to(dtype).div_(255)
    kind = "coarse_label_names" if coarse else "fine_label_names"
    names = _lines(folder / f"{kind if hundred else 'batches.meta'}.txt")
    return Images(images, labels, tuple(names[:classes]))


def load_tiny_imagenet(
    folder: Path | str, test: bool = False, dtype: torch.dtype = torch.float32
) -> Images:
    """Tiny-ImageNet from its folder ``tiny-imagenet-200``.

    ``wnids.txt`` lists the classes, which are numbered in this order. Images for
    training are ``train/WNID/images/*.JPEG``. For testing are those of ``val/images``,
    whose classes are in ``val/val_annotations.txt``: those of ``test`` are not public.

    Args:
        folder: With these files, unpacked.
        test: Whether the images of ``val`` are read; else those for training.
        dtype: Of the pixels.

    Returns:
        Images [n, 12288] of shape ``TINY``, by class or as annotated, and their
        classes. Grey images have three equal channels.

    Raises:
        FileNotFoundError: If the folder, a file or an image is not there.
        ValueError: If a class is none of ``wnids.txt``, there are no images, or one
            cannot be read or is of another size.
    """
    folder = _folder(folder, "Tiny-ImageNet, tiny-imagenet-200")
    listed = folder / "wnids.txt"
    if not listed.is_file():
        raise _missing(listed)
    numbers = {wnid: k for k, wnid in enumerate(_lines(listed))}
    found: list[tuple[Path, int]] = []
    if test:
        annotations = folder / "val" / "val_annotations.txt"
        if not annotations.is_file():
            raise _missing(annotations)
        for row, line in enumerate(_lines(annotations)):
            name, _, rest = line.partition("\t")
            wnid = rest.partition("\t")[0]
            if wnid not in numbers:
                raise SiteError(
                    f"Row {row + 1} of val_annotations.txt has a class that "
                    "wnids.txt does not list; are both files of one data set?"
                )
            found.append((folder / "val" / "images" / name, numbers[wnid]))
    else:
        for wnid, number in numbers.items():
            own = sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
            found += [(path, number) for path in own]
    if not found:
        where = "val/val_annotations.txt names" if test else "train/WNID/images/ hold"
        raise SiteError(
            f"Folder {folder.name} has no images: {where} none. Unpack the data set "
            "there as it is published."
        )
    pixels = np.empty((len(found), *TINY), np.uint8)
    for row, (path, _) in enumerate(found):
        pixels[row] = _image(path)
    images = torch.from_numpy(pixels).flatten(1).to(dtype).div_(255)
    words = dict(line.partition("\t")[::2] for line in _lines(folder / "words.txt"))
    return Images(
        images,
        torch.tensor([number for _, number in found], device="cpu"),
        tuple(words.get(wnid, wnid) for wnid in numbers),
    )


def _folder(folder: Path | str, what: str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(
            f"There is no folder {folder.name} with {what}; download and unpack it "
            "there.",
            f"The folder would be {folder.absolute()}.",
        )
    return folder


def _missing(path: Path) -> SiteError:
    """What is said of a file that is not there."""
    folder = path.parent
    pickled = ("data_batch_1", "test_batch", "train", "test")
    if path.suffix == ".bin" and any((folder / name).is_file() for name in pickled):
        return SiteError(
            f"Folder {folder.name} has the python version of CIFAR, whose files are "
            "pickles and could run anything when they are read. Download the binary "
            "version, cifar-10-binary.tar.gz or cifar-100-binary.tar.gz."
        )
    return MissingFileError(
        f"There is no file {path.name} in folder {folder.name}; unpack the data set "
        "there as it is published.",
        f"The file would be {path.absolute()}.",
    )


def _batch(
    path: Path, bytes_: int, coarse: bool, classes: int
) -> tuple[Tensor, Tensor]:
    """Labels [n] and pixels [n, 3072] of a file of CIFAR."""
    size = bytes_ + int(np.prod(CIFAR))
    values = np.fromfile(path, np.uint8)
    if len(values) == 0 or len(values) % size:
        raise SiteError(
            f"File {path.name} has {len(values)} bytes, which are no images of {size} "
            "bytes each. Is it damaged, or of another data set?"
        )
    rows = torch.from_numpy(values).view(-1, size)
    labels = rows[:, 0 if coarse or bytes_ == 1 else 1].long()
    wrong = (labels >= classes).nonzero()
    if len(wrong):
        raise SiteError(
            f"Row {int(wrong[0]) + 1} of file {path.name} has a class beyond the "
            f"{classes} of this data set. Is it damaged, or of another data set?"
        )
    return labels, rows[:, bytes_:]


def _image(path: Path) -> np.ndarray:
    """Pixels of an image as ``TINY``."""
    from PIL import Image, UnidentifiedImageError  # brought by matplotlib

    if not path.is_file():
        raise _missing(path)
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise SiteError(f"Image {path.name} cannot be read.", str(error)) from error
    if pixels.shape != (*TINY[1:], TINY[0]):
        raise SiteError(
            f"Image {path.name} has {pixels.shape[0]} x {pixels.shape[1]} pixels; "
            f"those of Tiny-ImageNet have {TINY[1]} x {TINY[2]}."
        )
    return pixels.transpose(2, 0, 1)


def _lines(path: Path) -> Sequence[str]:
    """Lines of a text file that are not blank; none if it is not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()]
