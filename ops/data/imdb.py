"""IMDB film reviews as bags of words (Sec. 5.4; Maas et al. 2011): is a review positive?

1,003 inputs: the 1,000 words most frequent in the training split, in falling order of frequency,
words of equal frequency in the order of their code points; then "unknown", 1 if the review has any
other word; then "start" and "end", which every review has.  An input is 1 if present, else 0.

A word: the text in lower case, "<br />" taken for a blank, is cut into runs of letters and digits
of any script, an apostrophe between two of them being part of the word ("don't").
"""
import collections
import contextlib
import hashlib
import os
import re

import numpy as np

from ops.data.labelled import Dataset
from ops.data.places import Source, place_of, read_bytes, read_npz
from ops.errors import InputError
from ops.files import save_npz

IMDB = Source("the Large Movie Review Dataset (aclImdb_v1.tar.gz, unpacked)", "aclImdb",
              "https://ai.stanford.edu/~amaas/data/sentiment")
SPLITS, CLASSES, FOLDERS = ("train", "test"), ("negative", "positive"), ("neg", "pos")
VOCABULARY = 1000
UNKNOWN, START, END = VOCABULARY, VOCABULARY + 1, VOCABULARY + 2
FEATURES = VOCABULARY + 3
PACKED = -(-FEATURES // 8)  # bytes of a row in the cache, 8 inputs each
PARTS = ("x_train", "y_train", "x_test", "y_test")
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
BREAK = re.compile(r"<br\s*/?>")
CACHE = "aclImdb_bag_of_words.npz"
VERSION = 1  # of the rules above: raise it with any change, so that old caches are made anew


def load_imdb(name, folder):
    """The `aclImdb/{train,test}/{pos,neg}/*.txt` tree under `folder` -> Dataset, 2 classes.

    x [n, 1003] float32, 0 or 1; 50,000 reviews take 200 MB.  What was read is kept beside the tree
    in `aclImdb_bag_of_words.npz` while names, sizes and times of the files stay the same; a folder
    that cannot be written is left alone.
    Raises InputError: a folder that is missing or without reviews, a file that is not UTF-8.
    """
    base = place_of(folder, IMDB)
    listing = {(split, c): _list(base, split, c) for split in SPLITS for c in (0, 1)}
    key, cache = _key(listing), os.path.join(folder, CACHE)
    arrays = _cached(cache, key)
    if arrays is None:
        arrays = read_reviews(listing)
        packed = {part: np.packbits(array, axis=1) for part, array in arrays.items() if part[0] == "x"}
        with contextlib.suppress(InputError):  # a folder that cannot be written: slower the next time, no worse
            save_npz(cache, arrays | packed | {"key": np.array(key)})
    return Dataset(name, *(arrays[part].astype(np.float32 if part[0] == "x" else np.intp) for part in PARTS), CLASSES)


def words_of(text):
    """The words of a review, a list of str in the text's order, by the rule above."""
    return WORD.findall(BREAK.sub(" ", text.lower()))


def vocabulary_of(reviews):
    """The VOCABULARY most frequent words of reviews (lists of words) -> {word: 0, 1, ...}.

    Every occurrence counts; words of equal count come in the order of their code points.
    """
    counts = collections.Counter(word for words in reviews for word in words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:VOCABULARY]
    return {word: i for i, word in enumerate(ranked)}


def bag_of_words(reviews, vocabulary):
    """Reviews, an iterable of n lists of words -> [n, 1003] uint8, 0 or 1."""
    rows = []
    for words in reviews:
        row = np.zeros(FEATURES, np.uint8)
        row[[vocabulary.get(word, UNKNOWN) for word in set(words)] + [START, END]] = 1
        rows.append(row)
    return np.stack(rows)


def read_reviews(listing):
    """{(split, class): [(path, ...)]} -> {x_train, y_train, x_test, y_test}, all uint8, x 0 or 1.

    Reviews in the order of the lists, negative ones first; the vocabulary is the training split's.
    InputError for a file that cannot be read or is not UTF-8.
    """
    reviews = {split: [words_of(_read_text(path)) for c in (0, 1) for path, *_ in listing[split, c]]
               for split in SPLITS}
    vocabulary = vocabulary_of(reviews["train"])
    arrays = {}
    for split in SPLITS:
        arrays[f"x_{split}"] = bag_of_words(reviews[split], vocabulary)
        arrays[f"y_{split}"] = np.repeat(np.arange(2, dtype=np.uint8),
                                         [len(listing[split, c]) for c in (0, 1)])
    return arrays


def _list(base, split, c):
    """[(path, bytes, time of change in ns)] of a class's reviews, by name; InputError if none."""
    folder = os.path.join(base, split, FOLDERS[c])
    try:
        with os.scandir(folder) as entries:
            found = [(entry.path, entry.stat().st_size, entry.stat().st_mtime_ns)
                     for entry in entries if entry.name.endswith(".txt") and entry.is_file()]
    except OSError as error:
        raise InputError(f"'{folder}' cannot be listed ({error.strerror or error}); unpack "
                         f"{IMDB.title} from {IMDB.origin} again") from None
    if not found:
        raise InputError(f"'{folder}' holds no *.txt: class '{CLASSES[c]}' is empty; unpack "
                         f"{IMDB.title} from {IMDB.origin} again")
    return sorted(found)


def _read_text(path):
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 (byte {error.start}: {error.reason}); unpack "
                         "aclImdb again or save the file as UTF-8") from None


def _key(listing):
    """What a cache belongs to: the rules' version, counts, a digest of names, sizes and times."""
    digest = hashlib.sha256()
    for (split, c), entries in listing.items():
        for path, size, time in entries:
            digest.update(f"{split} {c} {os.path.basename(path)} {size} {time}\n".encode(
                "utf-8", "surrogateescape"))
    counts = "+".join(str(len(entries)) for entries in listing.values())
    return f"{VERSION} {counts} {digest.hexdigest()}"


def _cached(path, key):
    """The arrays of a cache made for `key`; None if there is none or anything is wrong with it."""
    try:
        found, *arrays = read_npz(path, ("key", *PARTS))
    except InputError:
        return None
    # The zip's sums guard what is read, but a header that is damaged may ask for less.
    rows = [array.shape[:1] for array in arrays]
    if str(found) != key or rows[::2] != rows[1::2] or any(x.shape[1:] != (PACKED,) for x in arrays[::2]):
        return None
    return {part: np.unpackbits(array, axis=1, count=FEATURES) if part[0] == "x" else array
            for part, array in zip(PARTS, arrays)}
