"""`evaluate.py bench`: the products that it counts are those performed, and its numbers agree with each other."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import evaluate
from figures import bench, bench_cases, roofline
from ops.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TINY = dict(batch_size=7, hdims=6, delta=5, top=4, rank=2, sizes=[30, 13, 11, 9], unrolls=2, pairs=2, per_batch=20)

# Runs with every np.matmul of float32 matrices noted under the block that the clock is in.
COUNTING = """
import json, sys; sys.path.insert(0, sys.argv[1])
import numpy as np
from figures.bench_cases import problem
from figures.bench_process import BlockClock
clock, plain, counted = BlockClock(), np.matmul, {}
def matmul(a, b, **options):
    if a.ndim > 1 and b.ndim > 1 and np.result_type(a, b) == np.float32:
        m, k, n = *a.shape[-2:], b.shape[-1]
        stack = int(np.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])))
        counted[clock.block] = counted.get(clock.block, 0) + 2 * stack * m * k * n
    return plain(a, b, **options)
np.matmul = matmul
um, case = clock.um, json.load(sys.stdin)
theta, phi, x, labelled = problem(um, case)
clock.of(lambda: um.unsupervised_update(phi, x[0], theta))
update, counted = counted, {}
seconds, blocks = clock.of(lambda: um.meta_gradient(theta, phi, x, labelled))
print(json.dumps({"update": update, "gradient": counted, "seconds": seconds, "blocks": blocks}))
"""


@pytest.fixture(scope="module")
def performed():
    done = subprocess.run([sys.executable, "-c", COUNTING, str(ROOT)], input=json.dumps(TINY), capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def listed(products):
    """{block: operations}"""
    counts = {}
    for block, m, k, n in products:
        counts[block] = counts.get(block, 0) + 2 * m * k * n
    return counts


def test_the_products_of_an_update_are_those_performed(performed):
    assert listed(bench_cases.update_products(TINY)) == performed["update"]


def test_the_products_of_a_gradient_are_those_performed(performed):
    counts = listed(bench_cases.gradient_products(TINY))
    assert counts == performed["gradient"]


def test_the_clock_splits_a_run_among_all_blocks(performed):
    assert set(performed["blocks"]) == set(bench_cases.BLOCKS)
    assert min(performed["blocks"].values()) > 0
    assert sum(performed["blocks"].values()) < performed["seconds"]


def test_paper_sizes_cost_what_the_specification_says():
    """About 21 GFLOP for an inner step and its gradient at B = 128, H = 64, [196, 128 x 3, 32], nearly all in ComputeH."""
    case = bench_cases.CASES["paper-3"]
    convolutions = bench_cases.conv_gflop(case)
    assert convolutions["ComputeH"] == pytest.approx(3 * 2 * 128 * 612 * 3 * (45 * 64 + 3 * 64 * 64) / 1e9)
    assert 20.5 < convolutions["ComputeH"] < 22 and convolutions["TopD"] < 2.5
    listed = [p for p in bench_cases.update_products(case) if p[0] == "ComputeH"]
    assert 3 * bench_cases.gflop(listed) == pytest.approx(convolutions["ComputeH"])


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """(standard output, JSON of --json, JSON beside the picture, path of the picture) of a run with a tiny case."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bench_cases.CASES, "tiny", TINY)
        for name in ("LIMIT_BUDGET", "OUR_BUDGET"):
            patch.setattr(bench, name, 0.0)
        patch.setattr(bench, "ROUNDS", 1)
        arguments = ["bench", "--cases", "tiny", "--threads", "1,2", "--parts", "steps", "--json", str(folder / "out.json"),
                     "--picture", str(folder / "p.png")]
        lines, real = [], print
        patch.setattr("builtins.print", lambda *a, **k: real(*a, **k) if k.get("file") else lines.append(a[0]))
        assert evaluate.main(arguments) == 0
    read = lambda name: json.loads((folder / name).read_text())
    return "\n".join(lines), read("out.json"), read("p.json"), folder / "p.png"


def test_rows_for_both_kinds_of_step_and_each_thread_count(small_run):
    rows = small_run[1]["rows"]
    assert [(r["case"], r["threads"], r["what"]) for r in rows] == [
        ("tiny", threads, what) for threads in (1, 2) for what in ("update", "gradient")]
    for row in rows:
        assert row["gflops"] == pytest.approx(row["gflop"] / row["seconds"])
        assert row["fraction"] == pytest.approx(row["gflops"] / row["sgemm_gflops"])
        assert row["peak_mb"] > 20 and row["first_call_s"] > 0


def test_blocks_add_up_to_the_whole(small_run):
    for row in small_run[1]["rows"][1::2]:
        assert [b["block"] for b in row["blocks"]] == [*bench_cases.BLOCKS, bench_cases.REST]
        assert sum(b["seconds"] for b in row["blocks"]) == pytest.approx(row["clocked_s"])
        assert sum(b["gflop"] for b in row["blocks"]) == pytest.approx(row["gflop"])
        assert sum(b["limit_s"] or 0 for b in row["blocks"]) == pytest.approx(row["limit_s"])


def test_the_table_says_what_the_json_says(small_run):
    text, result = small_run[0], small_run[1]
    lines = [line.split() for line in text.splitlines() if line.startswith("tiny ") and "ms per" not in line]
    assert len(lines) == len(result["rows"])
    for found, row in zip(lines, result["rows"]):
        assert found == ["tiny", str(row["threads"]), row["what"], f"{1e3 * row['seconds']:.2f}", f"{row['gflop']:.2f}",
                         f"{row['gflops']:.1f}", f"{row['sgemm_gflops']:.1f}", f"{row['fraction']:.0%}",
                         f"{row['peak_mb']:.0f}", f"{row['first_call_s']:.2f}"]
    found = [line.split()[-4] for line in text.splitlines() if line.startswith("  ComputeH")]
    wanted = [b["seconds"] for r in result["rows"][1::2] for b in r["blocks"] if b["block"] == "ComputeH"]
    assert found == [f"{1e3 * seconds:.3f}" for seconds in wanted]


def test_the_picture_shows_every_block_with_its_limit(small_run):
    _, result, numbers, picture = small_run
    assert picture.read_bytes().startswith(b"\x89PNG") and numbers["result"] == result
    axes = roofline.draw(numbers).axes
    assert [a.get_title() for a in axes] == ["tiny, 1 thread", "tiny, 2 threads"]
    for a, panel in zip(axes, numbers["panels"]):
        assert [t.get_text() for t in a.get_yticklabels()] == ["whole inner step", *bench_cases.BLOCKS, bench_cases.REST]
        assert [patch.get_width() for patch in a.patches] == [bar["ms"] for bar in panel["bars"]]
        limits = [segment[0][0] for segment in a.collections[0].get_segments()]
        assert limits == [bar["limit_ms"] for bar in panel["bars"] if bar["limit_ms"] is not None]


def test_the_picture_is_drawn_again_from_its_numbers(small_run, tmp_path):
    assert roofline.main([str(small_run[3].with_suffix(".json")), str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == small_run[3].read_bytes()


@pytest.mark.parametrize("options, word", [
    (["--cases", "desktop"], "desktop"), (["--cases", ""], "--cases"), (["--threads", "0"], "--threads 0"),
    (["--threads", ""], "--threads"), (["--threads", "1,two"], "two"), (["--parts", "steps,stop"], "stop"),
    (["--picture", "a.pdf"], ".png"), (["--picture", "a.png", "--parts", "loop"], "steps"),
    (["--json", "a.json", "--picture", "a.png"], "a.json"), (["--threads", "1", "--budget", "2"], "--budget")])
def test_a_bad_option_is_one_line_and_nothing_is_measured(options, word, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "measure_all", lambda *_: pytest.fail("measured"))
    assert evaluate.main(["bench", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and not any(tmp_path.iterdir())


def test_a_case_that_fails_in_its_process_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(bench_cases.CASES, "tiny", TINY | {"batch_size": -1})
    assert evaluate.main(["bench", "--cases", "tiny", "--threads", "1", "--parts", "steps"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "[30, 13, 11, 9]" in error


def record(seconds, data=0.01, segments=4):
    return {"seconds": seconds, "segments": segments, "data_s": data, "unroll_s": 0.09}


def test_the_rate_of_the_loop_leaves_the_start_out():
    records = [record(0.0, 5.0), record(0.5, 5.0)] + [record(2.0 + i / 2) for i in range(11)]
    numbers = bench.loop_numbers(records, 2.0)
    assert numbers == {"gradients_per_s": pytest.approx(8.0), "data_share": pytest.approx(0.1), "seconds": pytest.approx(5.0)}


def test_a_loop_without_enough_meta_steps_says_so():
    with pytest.raises(InputError, match="too few meta-steps"):
        bench.loop_numbers([record(0.0), record(9.0), record(9.5)], 2.0)


def test_start_is_measured_on_a_real_run(monkeypatch):
    before = set(os.listdir(ROOT))
    assert 0.1 < bench.start_seconds() < bench.START_SECONDS
    assert set(os.listdir(ROOT)) == before  # the run was made elsewhere
