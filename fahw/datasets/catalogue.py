"""The data sets that fahw knows by name: their sizes, the sources of their files, and checksums to recognise a file by.

Checksums are those that the publishers' gzip files have had unchanged for years; `unpacked_sha256` is that of the bytes
inside, so that a file packed anew, or unpacked, is recognised too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fahw.errors import ConfigError, Problem, suggestion


@dataclass(frozen=True)
class RemoteFile:
    """One published file: `name` with its `.gz`, `size` of the gzip file in bytes, checksums in hexadecimal."""

    name: str
    size: int
    sha256: str
    unpacked_sha256: str = ""


@dataclass(frozen=True)
class DatasetEntry:
    """A known data set.

    `shape`: one image, (channels, height, width). `maximum`: largest pixel value. `kind`: how its files are read.
    `urls`: folders that hold the files, tried in turn. `files`: train images, train labels, test images, test labels,
    or an archive of `members`; none for a set that ships with fahw.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: int
    maximum: int
    source: str
    licence: str
    kind: Literal["bundled", "idx", "cifar"] = "bundled"
    urls: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    members: tuple[str, ...] = ()


_DIGITS = DatasetEntry(
    name="digits",
    title="UCI optical digits, 8 x 8 (ships with fahw)",
    shape=(1, 8, 8),
    classes=10,
    maximum=16,
    source="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    licence="CC BY 4.0",
)

_MNIST = DatasetEntry(
    name="mnist",
    title="MNIST handwritten digits, 28 x 28",
    shape=(1, 28, 28),
    classes=10,
    maximum=255,
    source="Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits, 1998",
    licence="CC BY-SA 3.0",
    kind="idx",
    urls=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    files=(
        RemoteFile(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        RemoteFile(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        RemoteFile(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        RemoteFile(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

_FASHION = DatasetEntry(
    name="fashion_mnist",
    title="Fashion-MNIST articles of clothing, 28 x 28",
    shape=(1, 28, 28),
    classes=10,
    maximum=255,
    source="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017",
    licence="MIT",
    kind="idx",
    urls=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    files=(
        RemoteFile(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        RemoteFile(
            "train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        RemoteFile(
            "t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        RemoteFile(
            "t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    ),
)

_CIFAR = DatasetEntry(
    name="cifar10",
    title="CIFAR-10 photographs, 3 x 32 x 32",
    shape=(3, 32, 32),
    classes=10,
    maximum=255,
    source="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
    licence="none stated; free for research",
    kind="cifar",
    urls=("https://www.cs.toronto.edu/~kriz/",),
    files=(
        RemoteFile(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    members=tuple(
        f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
    ),
)

DATASETS: dict[str, DatasetEntry] = {entry.name: entry for entry in (_DIGITS, _MNIST, _FASHION, _CIFAR)}
"""The known data sets by name."""


def dataset_entry(name: str) -> DatasetEntry:
    """The known data set of that name. Raises ConfigError, with the nearest name, where there is none."""
    if name not in DATASETS:
        message = f"no data set '{name}'{suggestion(name, DATASETS)}; known: {', '.join(DATASETS)}"
        raise ConfigError(Problem("data", message))
    return DATASETS[name]
