"""`python unsup_meta.py`: an update told from the definitions themselves."""
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "unsup_meta.py"


def test_an_update_is_told_equation_by_equation(tmp_path):
    done = subprocess.run([sys.executable, str(PROGRAM)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr
    told = dict(re.findall(r"^  \((?:App\.)?([^)]*)\) +(\S+)", done.stdout, re.M))
    for number, name in {"14": "x", "28": "xs", "67-68": "m2", "95": "m3", "31": "delta", "33": "->", "40, D6": "->",
                         "41": "plane1", "54-55, D7": "plane10", "58": "merge", "59, D8": "orth", "5-7": "->", "23": "C",
                         "26": "->"}.items():
        assert any(told[key] == name for key in told if key.endswith(number)), number
    assert len(re.findall(r" plane\d+ +\[6, 5\] +\d\.\d{4}  plane", done.stdout)) == 10
    claimed, found = map(float, re.search(r"(\S+) by the gradient, (\S+) by a finite", done.stdout).groups())
    assert abs(claimed) > 0.1 and abs(found / claimed - 1) < 1e-5
