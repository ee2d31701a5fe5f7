"""`Task`: the labelled images, the input permutation and the random batches of one few-shot problem (H.1)."""
import copy

import numpy as np

from ops.data.pool import check_form
from ops.errors import InputError
from ops.tasks.augment import (SIDES_OF_A_DIE, Augmentation, check_augmentation, draw_images, draw_motions,
                               fixed_orders, kernel, motion_targets, reading_order)

FEW = 256  # images; up to so many a class are drawn from by giving each image a random key


def make_task(rng, name, description, pool, classes, augmentation=Augmentation()):
    """A Task with what is random about it drawn from the Generator; arguments and errors as `Task`.

    Drawn in this order: the permutation of the inputs, the task's dropout mask, the classes' pixel orders.
    """
    features = pool.images.shape[1]
    check_augmentation(name, augmentation, pool.side)
    permutation, dropped, orders = rng.permutation(features), None, None
    if augmentation.task_dropout:
        dropped = rng.random(features) < augmentation.task_dropout
    if augmentation.class_permutations:
        orders = rng.integers(augmentation.class_permutations, size=len(classes))
    return Task(name, description, pool, classes, permutation, augmentation, dropped, orders)


def log_name(pool_name):
    """What logs call a set of tasks: its pool's name without "-"."""
    return pool_name.replace("-", "_")


class Task:
    """Some classes of a Pool, one input permutation, and how batches are drawn from them.

    name          str, for logs
    description   str, one line: data set, classes, augmentation
    pool          Pool; its images are not copied
    classes       [ways] different class numbers of the pool, in the order of the task's own classes
    permutation   [N0], applied to the features last, after every augmentation: out = in[permutation]
    augmentation  Augmentation: what is done to each drawn image
    dropped       [N0] bool, the inputs that task_dropout makes zero (before the permutation)
    orders        [ways] int, which of the `fixed_orders` each class has, for class_permutations

    Afterwards `classes` is their number, `features` is N0, `n_images` the number of all their images, `class_names`
    their names and `set_name` what logs call the pool.  All arrays that come out are float32 and depend only on the
    Generator handed in.
    Raises InputError, naming the task and the argument, when these do not fit together.
    """

    def __init__(self, name, description, pool, classes, permutation, augmentation=Augmentation(), dropped=None,
                 orders=None):
        classes, permutation = np.asarray(classes), np.asarray(permutation)
        check_form(pool)
        _check(name, pool, classes, permutation, augmentation, dropped, orders)
        self.name, self.description, self.augmentation = name, description, augmentation
        self.set_name = log_name(pool.name)
        self.permutation, self.class_names = permutation, tuple(pool.class_names[c] for c in classes)
        self.counts = pool.counts[classes].astype(np.intp)
        self.classes, self.features, self.n_images = len(classes), len(permutation), int(self.counts.sum())
        self.starts = (np.cumsum(pool.counts) - pool.counts)[classes].astype(np.intp)  # rows of the pool
        self._ends = np.cumsum(self.counts)  # in a count of the task's own images
        self._images = pool.images.view()
        self._images.flags.writeable = False  # so that the kernel is compiled once for both kinds
        self._scale = np.float32(255 if pool.images.dtype == np.uint8 else 1)
        self._side = pool.side or 0
        self._reading = reading_order(permutation, dropped)
        self._owners, self._orders = np.zeros(0, np.intp), np.zeros((0, self.features), np.uint32)
        if augmentation.class_permutations:
            pixels = self.features // pool.channels if pool.side else self.features
            self._owners = np.asarray(orders, np.intp)
            self._orders = fixed_orders(augmentation.class_permutations, pixels, self.features // pixels)

    def in_natural_order(self):
        """The same task with its inputs in the pool's own order; what is dropped stays dropped."""
        task = copy.copy(self)
        task.permutation, task._reading = np.arange(self.features), np.empty_like(self._reading)
        task._reading[self.permutation] = self._reading
        return task

    def unlabelled(self, rng, n):
        """A batch the rule learns from: [n, N0] float32, uniform over the task's images."""
        numbers = rng.integers(self.n_images, size=n)
        owners = np.searchsorted(self._ends, numbers, side="right")
        rows = numbers - self._ends[owners] + self.counts[owners] + self.starts[owners]
        return self._draw(rng, rows, owners)[0]

    def labelled(self, rng, shots, draws):
        """`draws` labelled batches of exactly `shots` images of every class.

        Returns x [draws, shots*classes, N0] and y [draws, shots*classes, classes + extras], ordered by class:
        the one-hot label, then the columns of `Augmentation.targets`, if any.

        A batch holds no image twice.  Only where a class has fewer than `shots` images and each comes out
        different every time it is drawn (`Augmentation.random`), all of them are used in a random order, over
        and over.  InputError, naming the class, if it has fewer and they would come out the same.
        """
        return tuple(a[0] for a in self.labelled_parts(rng, shots, draws, parts=1))

    def labelled_pair(self, rng, shots, draws):
        """Train and test batches of the meta-objective: (xa, ya, xb, yb), each as of `labelled`.

        Within a pair the two batches share no image of a class.  A class with fewer than 2*shots images is
        split into halves at random, anew for each pair; an odd image goes to the train batch.  InputError as
        `labelled`, and if such a class has a single image.
        """
        x, y = self.labelled_parts(rng, shots, draws, parts=2)
        return x[0], y[0], x[1], y[1]

    def check_pairs(self, shots):
        """InputError if `labelled_pair` would raise it; nothing is drawn."""
        self._require(shots, parts=2)

    def segment(self, rng, unrolls, batch_size, pairs, shots):
        """All data of one truncated segment: U unrolled updates, M pairs of batches after each.

        Returns x [U, B, N0] and (xa, ya, xb, yb), each [U, M, K, .] with K = shots*classes.
        InputError as `labelled_pair`.
        """
        x = self.unlabelled(rng, unrolls * batch_size)
        batches = self.labelled_pair(rng, shots, unrolls * pairs)
        shaped = tuple(a.reshape((unrolls, pairs) + a.shape[1:]) for a in batches)
        return x.reshape(unrolls, batch_size, self.features), shaped

    def labelled_parts(self, rng, shots, draws, parts):
        """x [parts, draws, shots*classes, N0] and their targets y [parts, draws, shots*classes, .].

        As `labelled_pair`, with so many batches instead of two that share no image of a class.
        """
        rows = self.choose(rng, shots, draws, parts)
        owners = np.tile(np.repeat(np.arange(self.classes), shots), parts * draws)
        x, extras = self._draw(rng, rows.reshape(-1), owners)
        y = np.zeros(rows.shape + (self.classes + extras.shape[1],), np.float32)
        y[..., :self.classes] = np.repeat(np.eye(self.classes, dtype=np.float32), shots, axis=0)
        y[..., self.classes:] = extras.reshape(rows.shape + (-1,))
        return x.reshape(rows.shape + (self.features,)), y

    def choose(self, rng, shots, draws, parts=1):
        """Rows of the pool [parts, draws, classes*shots] that `labelled` takes (parts 1), or `labelled_pair` (2).

        They are what those draw first from `rng`; see there on which rows occur twice.
        """
        self._require(shots, parts)
        taken = shots * parts
        if self.counts.min() >= taken and self.counts.max() <= FEW:
            keys = rng.random((draws, self.classes, self.counts.max()), dtype=np.float32)
            keys[:, np.arange(keys.shape[2]) >= self.counts[:, None]] = 2.0  # no such image
            # The `taken` smallest of random keys are a draw without replacement.  Each part's end is
            # a pivot too: NumPy promises no order within a partition, so it need not be a random one.
            pivots = np.arange(1, parts + 1) * shots - 1
            chosen = np.argpartition(keys, pivots, axis=2)[:, :, :taken]
        else:
            left = np.maximum(self.counts[:, None] - np.arange(taken), 1)  # images not yet drawn
            chosen = rng.integers(left, size=(draws,) + left.shape)
            _number_among_all(chosen)
            chosen = np.take_along_axis(chosen, self._places(shots, parts)[None], axis=2)
        chosen = (chosen + self.starts[:, None]).reshape(draws, self.classes, parts, shots)
        return chosen.transpose(2, 0, 1, 3).reshape(parts, draws, self.classes * shots)

    def _places(self, shots, parts):
        """Which of a class's images in random order each part takes: [classes, parts*shots] int.

        The part's own `shots` images, or, over and over, its share of those there are.
        """
        shares = np.minimum((self.counts[:, None] + parts - 1 - np.arange(parts)) // parts, shots)
        starts = np.cumsum(shares, axis=1) - shares
        places = starts[..., None] + np.arange(shots) % shares[..., None]
        return places.reshape(self.classes, parts * shots)

    def _draw(self, rng, rows, owners):
        """Rows of the pool [n], of the task's classes `owners` [n] -> images [n, N0], extra targets [n, .]."""
        motions = draw_motions(rng, self.augmentation, len(rows), self.features)
        out = np.empty((len(rows), self.features), np.float32)
        owners = self._owners[owners] if len(self._owners) else self._owners
        threshold = round(self.augmentation.example_dropout * SIDES_OF_A_DIE)
        draw_images(self._images, rows, motions, owners, self._orders, self._reading, self._side, threshold,
                    self._scale, out)
        extras = self.augmentation.extras
        return out, motion_targets(self.augmentation, motions) if extras else np.zeros((len(rows), 0), np.float32)

    def _require(self, shots, parts):
        """InputError unless each class has the images that batches of `shots`, or pairs of them, need."""
        if shots < 1:
            raise InputError(f"task '{self.name}': shots is {shots}; ask for 1 or more")
        smallest = int(self.counts.argmin())
        count, needed = self.counts[smallest], parts if self.augmentation.random else shots * parts
        if count < needed:
            what = f"{shots} shots" if parts == 1 else f"a pair of batches of {shots} shots"
            mend = (f"ask for {count // parts} shots or fewer" if count >= parts else
                    "give it more images or leave it out")
            raise InputError(f"task '{self.name}': class '{self.class_names[smallest]}' has {count} images, but "
                             f"{what} needs {needed}: {mend}")


@kernel
def _number_among_all(numbers):
    """In place, numbers [draws, classes, t] among what was left at each step -> among all of the class.

    Entry i is in 0..n-1-i on entry and says which of the n-i images not yet drawn comes next; on return the
    entries are different numbers in 0..n-1, as a shuffled class would begin.  Where t > n, those after the n-th
    mean nothing.
    """
    before = np.empty(numbers.shape[2], np.int64)  # what was drawn, rising
    for draw in range(numbers.shape[0]):
        for c in range(numbers.shape[1]):
            for i in range(numbers.shape[2]):
                number, place = numbers[draw, c, i], 0
                while place < i and before[place] <= number:
                    number += 1
                    place += 1
                for j in range(i, place, -1):
                    before[j] = before[j - 1]
                before[place] = number
                numbers[draw, c, i] = number


def _check(name, pool, classes, permutation, augmentation, dropped, orders):
    """InputError unless the arguments of `Task` fit together."""
    features, known = pool.images.shape[1], len(pool.counts)
    if (classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < 2
            or len(set(classes.tolist())) < len(classes) or classes.min() < 0 or classes.max() >= known):
        raise InputError(f"task '{name}': classes {classes.tolist()}; give 2 or more different numbers of the "
                         f"{known} classes of pool '{pool.name}'")
    if not np.array_equal(np.sort(permutation), np.arange(features)):
        raise InputError(f"task '{name}': permutation does not hold 0..{features - 1} once each")
    check_augmentation(name, augmentation, pool.side)
    if (dropped is not None) != (augmentation.task_dropout > 0) or np.shape(dropped) not in ((), (features,)):
        raise InputError(f"task '{name}': task_dropout {augmentation.task_dropout} with dropped "
                         f"{list(np.shape(dropped))}; give [{features}] if and only if it is above 0 (`make_task`)")
    count = augmentation.class_permutations
    if (orders is not None) != (count > 0) or (count and not (
            np.shape(orders) == classes.shape and np.isin(orders, np.arange(count)).all())):
        raise InputError(f"task '{name}': class_permutations {count} with orders {orders}; give one of its numbers "
                         "a class if and only if it is above 0 (`make_task`)")
