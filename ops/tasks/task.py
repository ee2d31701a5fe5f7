"""One supervised few-shot problem that a worker unrolls on (spec.md section 6)."""
import numpy as np

from ..errors import InputError


class Task:
    """Labelled images, one input permutation, and how batches are drawn from them.

    name         str, for logs
    description  str, one line: data set, classes, augmentation
    images       [n, N0] float32 in [0, 1], grouped by class: first all of class 0, then class 1 ...
    counts       [classes], how many images each class has, in that order (they add up to n)
    permutation  [N0], applied to the features last, after every augmentation: out = in[permutation]
    side         images are side x side (needed for shifts), or None for plain vectors
    max_shift    each drawn image is moved by whole pixels, x and y each uniform in
                 -max_shift..max_shift, zeros entering at the border
    class_names  one string a class, for error messages (default: their numbers)

    All arrays that come out are float32 and depend only on the Generator handed in.
    Raises InputError, naming the task and the argument, when these do not fit together.
    """

    def __init__(self, name, description, images, counts, permutation, side=None, max_shift=0,
                 class_names=None):
        counts = np.asarray(counts, dtype=np.intp)
        permutation = np.asarray(permutation, dtype=np.intp)
        _check(name, images, counts, permutation, side, max_shift)
        self.name, self.description = name, description
        self.counts, self.starts = counts, np.cumsum(counts) - counts
        self.permutation, self.side, self.max_shift = permutation, side, max_shift
        self.class_names = tuple(class_names or map(str, range(len(counts))))
        self.classes, self.features = len(counts), images.shape[1]
        self.n_images = len(images)
        self._pixels = permutation  # where a permuted image's pixels lie, from its corner on
        if max_shift:  # a frame of zeros, so that a shift is only another corner to read from
            images = np.pad(images.reshape(-1, side, side), ((0, 0),) + ((max_shift,) * 2,) * 2)
            self._pixels = permutation // side * (side + 2 * max_shift) + permutation % side
        self._framed = np.ascontiguousarray(images).reshape(self.n_images, -1)

    def unlabelled(self, rng, n):
        """A batch the rule learns from: [n, N0] float32, uniform over the task's images."""
        return self._draw(rng, rng.integers(self.n_images, size=n))

    def labelled(self, rng, shots, draws):
        """`draws` labelled batches of exactly `shots` different images of every class.

        Returns x [draws, shots*classes, N0] and one-hot y [draws, shots*classes, classes], ordered
        by class.  InputError if a class has fewer than `shots` images.
        """
        (rows,) = self._choose(rng, shots, draws, parts=1)
        return self._draw(rng, rows), self._targets(shots, draws)

    def labelled_pair(self, rng, shots, draws):
        """Train and test batches of the meta-objective: (xa, ya, xb, yb), shapes as `labelled`.

        Within a pair the two batches share no image of a class.  InputError, naming the class, if
        one has fewer than 2*shots images.
        """
        x = self._draw(rng, self._choose(rng, shots, draws, parts=2))
        return x[0], self._targets(shots, draws), x[1], self._targets(shots, draws)

    def segment(self, rng, unrolls, batch_size, pairs, shots):
        """All data of one truncated segment: U unrolled updates, M pairs of batches after each.

        Returns x [U, B, N0] and (xa, ya, xb, yb), each [U, M, K, .] with K = shots*classes.
        InputError as `labelled_pair`.
        """
        x = self.unlabelled(rng, unrolls * batch_size)
        batches = self.labelled_pair(rng, shots, unrolls * pairs)
        shaped = tuple(a.reshape((unrolls, pairs) + a.shape[1:]) for a in batches)
        return x.reshape(unrolls, batch_size, self.features), shaped

    def _choose(self, rng, shots, draws, parts):
        """Row numbers [parts, draws, classes*shots]; no row twice within a draw, over all parts."""
        self._require(shots, parts)
        taken = shots * parts
        keys = rng.random((draws, self.classes, self.counts.max()), dtype=np.float32)
        keys[:, np.arange(keys.shape[2]) >= self.counts[:, None]] = 2.0  # no such image
        # The `taken` smallest of random keys are a draw without replacement.  Each part's end is
        # a pivot too: NumPy promises no order within a partition, so it need not be a random one.
        pivots = np.arange(1, parts + 1) * shots - 1
        chosen = np.argpartition(keys, pivots, axis=2)[:, :, :taken] + self.starts[:, None]
        chosen = chosen.reshape(draws, self.classes, parts, shots).transpose(2, 0, 1, 3)
        return chosen.reshape(parts, draws, self.classes * shots)

    def _draw(self, rng, rows):
        """Rows of any shape [...] -> their images [..., N0], each shifted at random, permuted."""
        shape, corner = rows.shape + (self.features,), rows.reshape(-1) * self._framed.shape[1]
        if self.max_shift:
            # An image moved by (dy, dx) is read from (s - dy, s - dx) on in its frame of s zeros;
            # both are uniform in 0..2s as dy and dx are in -s..s.
            down, right = rng.integers(2 * self.max_shift + 1, size=(2, len(corner)))
            corner = corner + down * (self.side + 2 * self.max_shift) + right
        # mode="clip" only spares NumPy its check of every index: all are in range
        return np.take(self._framed.reshape(-1), corner[:, None] + self._pixels,
                       mode="clip").reshape(shape)

    def _targets(self, shots, draws):
        """One-hot labels [draws, shots*classes, classes] float32, in the order of `_choose`."""
        one_hot = np.repeat(np.eye(self.classes, dtype=np.float32), shots, axis=0)
        return np.repeat(one_hot[None], draws, axis=0)

    def _require(self, shots, parts):
        if shots < 1:
            raise InputError(f"task '{self.name}': shots is {shots}; ask for 1 or more")
        smallest = int(self.counts.argmin())
        if self.counts[smallest] < shots * parts:
            what = f"{shots} shots" if parts == 1 else f"a pair of batches of {shots} shots"
            raise InputError(
                f"task '{self.name}': class '{self.class_names[smallest]}' has "
                f"{self.counts[smallest]} images, but {what} needs {shots * parts}: "
                f"ask for {self.counts[smallest] // parts} shots or fewer")


def _check(name, images, counts, permutation, side, max_shift):
    """InputError unless the arguments of `Task` fit together."""
    if images.ndim != 2 or images.dtype != np.float32:
        raise InputError(f"task '{name}': images are {images.dtype} {list(images.shape)}; "
                         "give float32 [n, N0]")
    n, features = images.shape
    if counts.ndim != 1 or len(counts) < 2 or counts.min() < 1 or counts.sum() != n:
        raise InputError(f"task '{name}': counts {counts.tolist()} do not describe {n} images; "
                         "give 2 or more positive counts that add up to it")
    if not np.array_equal(np.sort(permutation), np.arange(features)):
        raise InputError(f"task '{name}': permutation does not hold 0..{features - 1} once each")
    if max_shift < 0 or (max_shift and (side is None or side * side != features)):
        raise InputError(f"task '{name}': max_shift {max_shift} with side {side} and {features} "
                         "features; shifts are 0 or more pixels of square images (side*side = N0)")
