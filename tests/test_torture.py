"""A small share of `benchmarks.torture` and `benchmarks.fuzz`; the rest is slow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def survived(*arguments: str) -> None:
    done = run("benchmarks.torture", "--json", *arguments)
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)
    lost = {name: said for name, (how, said) in results.items() if how == "LOST"}
    assert not lost
    assert done.returncode == 0
    assert {how for how, _ in results.values()} <= {"survived", "left out"}
    assert results["kills"][0] == "survived"


def test_a_few_kills_and_each_fault_once() -> None:
    survived("--quick", "--kills", "3", "--operations", "40", "--commands", "1")


@pytest.mark.slow
def test_hundreds_of_kills_and_each_fault_in_every_form() -> None:
    survived("--kills", "200", "--operations", "3", "--commands", "5")


@pytest.mark.slow
def test_a_long_run_leaks_nothing() -> None:
    done = run("benchmarks.leak", "--steps", "2000", "--samples", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["last"]["step"] == 2000


def test_a_few_hundred_damaged_files() -> None:
    done = run("benchmarks.fuzz", "--files", "290")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "290 files, 0 findings" in done.stdout


@pytest.mark.slow
def test_ten_thousand_damaged_files() -> None:
    done = run("benchmarks.fuzz", "--files", "10000", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
