"""IMDB's reviews as bags of words: which words count, what is kept on disk, and what is refused."""
import os

import numpy as np

from ops.data import imdb, load_dataset
from small_data import make_imdb, refused_data, rng


def test_words_of_a_review():
    assert imdb.words_of("Don't  STOP<br />me--now, 'quoted' A.B.C. über_all 10/10<br>!") == [
        "don't", "stop", "me", "now", "quoted", "a", "b", "c", "über", "all", "10", "10"]
    assert imdb.words_of(" <br /> ...") == []


def test_imdb_is_a_bag_of_the_training_words(tmp_path):
    make_imdb(tmp_path)
    d = load_dataset("imdb", str(tmp_path))
    assert d.classes == ("negative", "positive")
    assert d.x_train.shape == (4, 1003) and d.x_test.shape == (2, 1003) and d.x_train.dtype == np.float32
    assert d.y_train.tolist() == [0, 0, 1, 1] and d.y_test.tolist() == [0, 1]
    words = ["bad", "film", "a", "apple", "don't", "end", "good", "zebra"]  # 3 each, then ties by name
    bags = [{"bad", "film", "don't"}, {"a", "bad", "end"}, {"good", "film"}, {"film", "zebra", "apple"}]
    for row, bag in zip(d.x_train, bags):
        assert {words[i] for i in np.flatnonzero(row[:1000])} == bag and row[1000:].tolist() == [0, 1, 1]
    assert np.flatnonzero(d.x_test[0]).tolist() == [1000, 1001, 1002]  # nothing of the test split is a word
    assert np.flatnonzero(d.x_test[1]).tolist() == [words.index("good"), 1001, 1002]
    assert set(np.unique(d.x_train)) == {0, 1}


def test_the_vocabulary_ends_at_a_thousand_and_its_ties_are_by_name():
    words = [f"w{i:04}" for i in range(1200)]
    vocabulary = imdb.vocabulary_of([list(rng().permutation(words)), ["w1199"]])
    assert list(vocabulary) == ["w1199"] + words[:999] and list(vocabulary.values()) == list(range(1000))
    row = imdb.bag_of_words([["w0998", "w0999"]], vocabulary)[0]
    assert np.flatnonzero(row).tolist() == [999, 1000, 1001, 1002]


def test_imdb_is_cached_and_made_anew_when_the_tree_changes(tmp_path, monkeypatch):
    make_imdb(tmp_path)
    first = load_dataset("imdb", str(tmp_path))
    cache = tmp_path / imdb.CACHE
    assert cache.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(imdb, "_read_text", None)  # not a file is opened again
        second = load_dataset("imdb", str(tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(first[1:5], second[1:5]))
    review = tmp_path / "aclImdb" / "test" / "pos" / "0_1.txt"
    review.write_text("a zebra")
    assert np.flatnonzero(load_dataset("imdb", str(tmp_path)).x_test[1]).size == 4
    status = review.stat()
    review.write_text("a apple")  # as long as it was, a second later
    os.utime(review, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert load_dataset("imdb", str(tmp_path)).x_test[1, 3] == 1
    cache.write_bytes(cache.read_bytes()[:-50])
    assert load_dataset("imdb", str(tmp_path)).x_test[1, 3] == 1
    monkeypatch.setattr(imdb, "VERSION", imdb.VERSION + 1)
    before = cache.read_bytes()
    load_dataset("imdb", str(tmp_path))
    assert cache.read_bytes() != before


def test_imdb_needs_no_writable_folder(tmp_path):
    make_imdb(tmp_path)
    os.mkdir(tmp_path / imdb.CACHE)  # nothing can be written there
    assert load_dataset("imdb", str(tmp_path)).x_train.shape == (4, 1003)
    assert not list(tmp_path.glob(".*"))


def test_imdb_trees_that_are_refused(tmp_path):
    make_imdb(tmp_path)
    review = tmp_path / "aclImdb" / "train" / "pos" / "1_1.txt"
    review.write_bytes(b"caf\xe9 film")
    refused_data([str(review), "UTF-8", "byte 3"], tmp_path, "imdb")
    review.unlink()
    (review.parent / "0_1.txt").unlink()
    refused_data([str(review.parent), "'positive' is empty"], tmp_path, "imdb")
    os.rmdir(review.parent)
    refused_data([str(review.parent), "cannot be listed"], tmp_path, "imdb")
