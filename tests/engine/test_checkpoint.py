"""Checkpoints: what is saved comes back to the bit, any damage is told in one line; files written whole."""
import dataclasses
import errno
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ops.engine.checkpoint import digests, load_checkpoint, save_checkpoint
from ops.engine.config import make_config
from ops.engine.progress import MetricsLog
from ops.errors import InputError
from ops.files import link_atomically, load_npz, sweep_temporary, write_atomically
from ops.data.pool import Pool
from small_runs import ROOT, flags, one_line, state_of, train

DATA = {"letters": "12ab"}
CONFIG = make_config("laptop", {"live_tasks": 4, "keep_checkpoints": 2, "meta_batch": 2, "glyph_ways": (3, 5)})
EARLIER = "earlier checkpoint-*.npz"


def state_at(step):
    best = {"score": 0.5, "step": 1}
    return {"step": step, "failures": 1, "elapsed": 2.5, "validated": 0, "best": best,
            "tasks": [{"slot": slot, "t": 3 * slot} for slot in range(4)]}


def arrays_of(seed=0):
    rng = np.random.default_rng(seed)
    return {"theta/merge": rng.standard_normal(10).astype(np.float32), "previous": rng.standard_normal(20),
            "phi/2": rng.standard_normal(7).astype(np.float32), "best": np.zeros((0, 3), np.float32)}


def save(folder, step=2, seed=0, **changes):
    state = state_at(step) | changes
    save_checkpoint(folder, CONFIG, DATA, state, arrays_of(seed))
    return state


def load(folder, config=CONFIG, data=DATA):
    return load_checkpoint(folder, config, data)


def visible(folder):
    """Names in the folder; nothing hidden may be left there."""
    names = sorted(path.name for path in folder.iterdir())
    assert not [name for name in names if name.startswith(".")], names
    return names


@pytest.mark.parametrize("best", [{"score": -0.5, "step": 0}, None])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, best):
    saved = save(tmp_path, best=best, more="of the run")
    state, arrays = load(tmp_path)
    assert state == saved and arrays.keys() == arrays_of().keys()
    for name, array in arrays_of().items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    with zipfile.ZipFile(tmp_path / "checkpoint.npz") as archive:  # its comment harms no other reader
        assert archive.testzip() is None
    assert load_npz(tmp_path / "checkpoint.npz")["config/lr"] == CONFIG.lr


def refusal(folder, words=(), **options):
    """The one line that says why the checkpoint is not loaded."""
    with pytest.raises(InputError) as caught:
        load(folder, **options)
    text = str(caught.value)
    assert text.startswith(str(folder / "checkpoint.npz")) and "\n" not in text, text
    assert len(text) < 400 + len(str(folder)) and all(word in text for word in words), text
    return text


def test_a_log_that_cannot_be_read_ends_in_one_line_and_no_validation_is_told_twice(tmp_path):
    train(tmp_path, *flags(steps=3))
    log = tmp_path / "runs/laptop/metrics.jsonl"
    told = log.read_text().splitlines(True)
    score, = (line for line in told if "score" in json.loads(line))
    assert state_of(tmp_path)[1]["state"]["validated"] == 3
    for validated, left in ((3, told), (2, [line for line in told if line != score])):  # 2: a checkpoint of before that validation
        log.write_bytes("".join(told).encode() + b"\xff\n")
        MetricsLog(log, 3, validated).close()
        assert log.read_text() == "".join(left)
    log.unlink()
    log.mkdir()
    one_line(train(tmp_path, *flags(steps=4), "--resume", code=2)[1], "metrics.jsonl")


def test_every_damaged_byte_is_refused_in_one_line(tmp_path):
    save(tmp_path)
    path, rng = tmp_path / "checkpoint.npz", np.random.default_rng(0)
    whole, told = path.read_bytes(), 0
    path.unlink()
    places = sorted({*range(0, len(whole), 7), *range(len(whole) - 300, len(whole))})  # the end: directory and digest
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        told += "damaged" in refusal(tmp_path) or "corrupt" in refusal(tmp_path)
    assert told > 0.99 * len(places)
    for end in rng.integers(0, len(whole), 200):
        path.write_bytes(whole[:end])
        refusal(tmp_path)
    for more in (b"\0", b"x" * 100, whole):
        path.write_bytes(whole + more)
        refusal(tmp_path)
    path.write_bytes(whole)
    assert load(tmp_path)[0] == state_at(2)


def rewritten(folder, **arrays):
    """A checkpoint as another program might write it, without the digest."""
    (folder / "checkpoint.npz").unlink(missing_ok=True)
    np.savez(folder / "checkpoint.npz", **arrays)


@pytest.mark.parametrize("header, words", [
    ('{"schema": 3, "other": 1}', ["schema 3", "reads 5", "version"]), ('{"schema": "5"}', ["schema '5'"]),
    ('{"schema": 5}', ["damaged", EARLIER]), ("{", ["no checkpoint of this program", EARLIER]),
    ("[1, 2]", ["no checkpoint of this program"]), ("[" * 200000, ["no checkpoint of this program"]),
    ("{}", ["no checkpoint of this program"])])
def test_what_this_program_did_not_write_is_refused(tmp_path, header, words):
    rewritten(tmp_path, header=header)
    refusal(tmp_path, words)
    rewritten(tmp_path, a=np.ones(3))
    refusal(tmp_path, ["no checkpoint of this program"])


def test_an_array_put_in_place_of_another_is_refused(tmp_path):
    """With the checksums of its own archive in order."""
    save(tmp_path)
    rewritten(tmp_path, **(load_npz(tmp_path / "checkpoint.npz") | {"previous": np.zeros(20)}))
    refusal(tmp_path, ["damaged", EARLIER])


def test_what_the_message_advises_works(tmp_path):
    save(tmp_path, step=1)
    before = load(tmp_path)[0]
    save(tmp_path, step=2)
    rewritten(tmp_path, header="{")
    (tmp_path / "checkpoint.npz").write_bytes((tmp_path / "checkpoint-000000001.npz").read_bytes())
    assert load(tmp_path)[0] == before
    save(tmp_path, step=2)  # the step once more, and on from there
    save(tmp_path, step=3)
    assert visible(tmp_path) == ["checkpoint-000000002.npz", "checkpoint-000000003.npz", "checkpoint.npz"]


def test_another_configuration_and_other_data_are_refused(tmp_path):
    save(tmp_path)
    text = refusal(tmp_path, [r"ridge (saved 0.1, now 0.3)", "glyph_ways (saved [3, 5], now [3, 6])"],
                   config=dataclasses.replace(CONFIG, ridge=0.3, glyph_ways=(3, 6), workers=7))
    assert "workers" not in text
    refusal(tmp_path, ["'letters' does not hold the images"], data={"letters": "34cd"})
    refusal(tmp_path, ["'letters' was there"], data={})
    refusal(tmp_path, ["'more' was not there"], data=DATA | {"more": "34cd"})
    with pytest.raises(InputError, match="nothing to resume"):
        load(tmp_path / "none")


def test_a_pools_digest_tells_its_images_and_their_classes():
    pool = Pool("p", np.arange(24, dtype=np.uint8).reshape(6, 4), np.array([2, 4]), ("a", "b"), 2)
    others = [pool._replace(images=pool.images + 1), pool._replace(counts=np.array([3, 3])),
              pool._replace(images=pool.images.reshape(4, 6))]
    of = [digests({"p": one})["p"] for one in (pool, pool._replace(images=pool.images.copy()), *others)]
    assert of[0] == of[1] and len(set(of)) == 4


# --- Saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, value", [("theta/merge", np.nan), ("previous", np.inf), ("phi/2", -np.inf)])
def test_what_is_not_finite_is_not_saved(tmp_path, name, value):
    save(tmp_path)
    before, arrays = (tmp_path / "checkpoint.npz").read_bytes(), arrays_of()
    arrays[name][-1] = value
    with pytest.raises(InputError, match=f"not written: {name}.*NaN or infinity"):
        save_checkpoint(tmp_path, CONFIG, DATA, state_at(3), arrays)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    assert visible(tmp_path) == ["checkpoint-000000002.npz", "checkpoint.npz"]


def test_the_newest_checkpoints_are_kept_and_later_ones_of_a_run_gone_back_do_not_push_them_out(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert visible(tmp_path) == ["checkpoint-000000010.npz", "checkpoint-000000015.npz", "checkpoint.npz"]
    for step in (6, 7, 8):
        save(tmp_path, step)
    assert {"checkpoint-000000007.npz", "checkpoint-000000008.npz"} <= set(visible(tmp_path))
    assert "checkpoint-000000006.npz" not in visible(tmp_path) and load(tmp_path)[0]["step"] == 8


def failing(number):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))
    return fail


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSPC, errno.EMLINK])
def test_a_file_system_without_links_gets_a_copy(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "link", failing(number))
    for step in (1, 2):
        save(tmp_path, step)
        assert load(tmp_path)[0]["step"] == step
    names = visible(tmp_path)
    assert names == ["checkpoint-000000001.npz", "checkpoint-000000002.npz", "checkpoint.npz"]
    assert not os.path.samefile(tmp_path / names[1], tmp_path / names[2])


@pytest.mark.parametrize("module, name", [("os", "replace"), ("os", "fsync"), ("tempfile", "mkstemp")])
def test_what_cannot_be_written_is_one_line_and_the_last_checkpoint_stays(tmp_path, monkeypatch, module, name):
    save(tmp_path, 1)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{name}", failing(errno.ENOSPC))
        with pytest.raises(InputError, match="checkpoint-000000002.npz: No space left on device") as caught:
            save(tmp_path, 2)
    assert "\n" not in str(caught.value) and (tmp_path / "checkpoint.npz").read_bytes() == before
    assert visible(tmp_path) == ["checkpoint-000000001.npz", "checkpoint.npz"]


def test_a_disk_that_fills_between_the_file_and_its_other_name(tmp_path, monkeypatch):
    save(tmp_path, 1)
    before, synced, fsync = (tmp_path / "checkpoint.npz").read_bytes(), [], os.fsync

    def second_fails(file):
        synced.append(file)
        return fsync(file) if len(synced) == 1 else failing(errno.ENOSPC)()

    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(InputError, match="checkpoint.npz: No space left"):
        save(tmp_path, 2)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before and visible(tmp_path)


def test_old_checkpoints_that_cannot_be_removed_do_no_harm(tmp_path, monkeypatch):
    for step in (1, 2):
        save(tmp_path, step)
    unlink = type(tmp_path).unlink
    monkeypatch.setattr(type(tmp_path), "unlink", lambda self, **options: failing(errno.EACCES)()
                        if self.name.startswith("checkpoint-") else unlink(self, **options))
    save(tmp_path, 3)
    assert load(tmp_path)[0]["step"] == 3 and len(visible(tmp_path)) == 4


def test_a_link_replaces_whatever_was_there(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    for _ in range(2):  # the second time it is that file already
        link_atomically(tmp_path / "b", tmp_path / "a")
        assert (tmp_path / "b").read_text() == "a" and visible(tmp_path) == ["a", "b"]
    with pytest.raises(InputError, match="cannot be read"):
        link_atomically(tmp_path / "b", tmp_path / "none")
    assert (tmp_path / "b").read_text() == "a"


def test_what_a_writer_killed_half_way_left_is_swept_up_and_a_living_ones_is_not(tmp_path, monkeypatch):
    path = tmp_path / "theta.npz"
    code = ("import os, sys\nfrom ops.files import write_atomically\nos.fsync = lambda f: os.kill(os.getpid(), 9)\n"
            "write_atomically(sys.argv[1], b'half')")
    dead = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    left = os.listdir(tmp_path)
    assert dead.returncode == -9 and len(left) == 1 and left[0].startswith(".theta.npz.")
    pid = int(left[0].split(".")[3])
    for name in (f".checkpoint.npz.{pid}._linking", f".metrics.jsonl.{os.getpid()}.abcd_123", "theta.npz", ".hidden",
                 f".theta.npz.{pid}", f"metrics.jsonl.{pid}.abcd_123"):
        (tmp_path / name).write_text("x")
    assert sorted(sweep_temporary(tmp_path)) == sorted([left[0], f".checkpoint.npz.{pid}._linking"])
    assert len(os.listdir(tmp_path)) == 5 and sweep_temporary(tmp_path) == [] == sweep_temporary(tmp_path / "none")

    def look(file):
        names.extend(os.listdir(tmp_path))

    names = []
    monkeypatch.setattr(os, "fsync", look)
    write_atomically(path, b"whole")
    assert [name for name in names if name.startswith(f".theta.npz.{os.getpid()}.")] and path.read_bytes() == b"whole"
