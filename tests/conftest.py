"""Tests run with one BLAS thread: reproducible, and kind to a machine that does something else too."""
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "helpers")]

from ops.processes import ONE_THREAD  # noqa: E402

os.environ.update(ONE_THREAD | os.environ)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: longer than the suite's four minutes allow; run with -m slow")


@pytest.fixture
def kernels():
    """The kernels run, also where the definitions were asked for: what is tested is theirs alone."""
    from checks import definitions
    with definitions(False):
        yield


def pytest_collection_modifyitems(config, items):
    if config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="slow; run with -m slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
