"""Make the small data sets in `embedded/` from the full ones.

    python -m ops.data.make_embedded DIR

DIR holds `mnist/` and `fashion-mnist/`, each with its four IDX files.  Images are averaged over 2x2
blocks to 14x14; 6,000 of the 60,000 training and 2,000 of the 10,000 test images are kept, drawn at
random: MNIST's first test images are harder than its last, so the first 2,000 would not do.
"""
import argparse
import os
import sys

import numpy as np

from ops.data.labelled import rounded_mean_of_2x2
from ops.data.mnist import EMBEDDED_FOLDER, FASHION, MNIST, read_split
from ops.errors import InputError

KEPT = {"train": 6000, "t10k": 2000}
SOURCES = {
    "mnist_14x14.npz": (MNIST, "MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist, "
                        "CC BY-SA 3.0; "),
    "fashion_mnist_14x14.npz": (FASHION, "Fashion-MNIST, Zalando Research, "
                                "https://github.com/zalandoresearch/fashion-mnist, MIT licence; ")}
CHANGES = ("changed: 6,000 training and 2,000 test images drawn at random, "
           "averaged over 2x2 blocks to 14x14, uint8")


def subset(folder, source, rng):
    """{x_train [6000, 196], y_train, x_test [2000, 196], y_test} uint8.  InputError as `read_split`, or for too few."""
    arrays = {}
    for split, short in (("train", "train"), ("t10k", "test")):
        images, labels = read_split(folder, source, split)
        if len(images) < KEPT[split]:
            raise InputError(f"'{folder}': {len(images)} {split} images of {source.title}; {KEPT[split]} are needed")
        rows = rng.choice(len(images), KEPT[split], replace=False)
        arrays["x_" + short] = rounded_mean_of_2x2(images[rows]).reshape(len(rows), -1)
        arrays["y_" + short] = labels[rows].astype(np.uint8)
    return arrays


def main(arguments=None):
    """The command; returns the exit code: 0, or 2 after one line on standard error."""
    parser = argparse.ArgumentParser(description="Make the small data sets in embedded/.")
    parser.add_argument("folder", metavar="DIR", help="folder with mnist/ and fashion-mnist/")
    parser.add_argument("--out", default=EMBEDDED_FOLDER, help="where to write them")
    options = parser.parse_args(arguments)
    try:
        for file_name, (source, words) in SOURCES.items():
            arrays = subset(options.folder, source, np.random.default_rng(0))
            path = os.path.join(options.out, file_name)
            with open(path + ".part", "wb") as file:  # so that no half-written file is left
                np.savez_compressed(file, **arrays, source=np.array(words + CHANGES))
            os.replace(path + ".part", path)
            print(f"{path}: {os.path.getsize(path)} bytes")
    except (InputError, OSError) as error:
        print(f"make_embedded: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
