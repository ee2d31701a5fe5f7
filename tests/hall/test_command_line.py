"""Programs whose output nobody reads any more."""
import os
import signal
import subprocess
import sys

import pytest

from small_runs import ENDLESS, ROOT, flags, metrics, start, state_of, workers_of


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks ps")
def test_a_run_whose_output_is_closed_is_saved_and_ends_without_a_word(tmp_path):
    process = start(tmp_path, *flags(workers=1, **ENDLESS), after=2)
    process.stdout.close()
    os.kill(workers_of(process)[0], signal.SIGKILL)  # of which it tells at once
    assert process.wait(30) == 141 and process.stderr.read() == ""
    process.stderr.close()
    assert state_of(tmp_path)[1]["state"]["step"] == metrics(tmp_path)[-1]["step"] + 1


@pytest.mark.parametrize("arguments", [["figure", "--help"], ["--help"]])
def test_help_that_nobody_reads(arguments):
    process = subprocess.Popen([sys.executable, str(ROOT / "evaluate.py"), *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(30) == 141 and process.stderr.read() == b""
    process.stderr.close()
