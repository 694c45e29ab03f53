"""What every test process begins with: its share of the cores, and signals as a terminal gives them."""

import os
import signal
from pathlib import Path

import pytest

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch is imported, which looks but once
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))


# From the longest on: what begins last must not be what the other workers wait for.
LONG_FILES = [
    "test_experiments.py",
    "recipes/distributed/test_sharding.py",
    "hydra_plugins/test_tuning.py",
    "recipes/runs/test_sweep.py",
    "recipes/test_resume.py",
    "test_configs.py",
    "recipes/training/test_loop.py",
    "reports/test_publish.py",
    "baselines/test_contract.py",
    "reports/claims/test_evaluation.py",
    "reports/test_page_browser.py",
    "recipes/training/execution/test_part_checkpoint.py",
    "test_run.py",
    "scripts/test_discover.py",
    "recipes/language/test_chunked_loss.py",
    "recipes/contrastive/test_recipe.py",
    "test_contributing.py",
    "scripts/test_scripts.py",
    "baselines/test_sharded.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first; the Makefile has xdist keep this order."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONG_FILES)}
    assert all(path.exists() for path in order), "a file of LONG_FILES has another name now"
    items.sort(key=lambda item: order.get(item.path, len(order)))


# A shell's background job and nohup have these ignored, and what tests start would inherit that.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
