"""`wgan train` and `wgan resume` on two processes, started by torchrun or as torchrun would."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from wgan.cli import main
from wgan.run import Run

TRAIN = (
    *("train", "gaussians8", "--precision", "fp64", "--width", "6", "--batch-size", "8"),
    *("--latent", "2", "--audit-every", "20", "--checkpoint-every", "4", "--judge", "0"),
    *("--sample-every", "100", "--quiet"),
)
PATIENCE = 300.0  # seconds, on a machine that does much else; half of what ranks wait for a step

Process = subprocess.Popen[str]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def torchrun(*arguments: str, restarts: int = 0) -> Process:
    """Two processes on this machine."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "--max-restarts", str(restarts)),
            *("-m", "wgan", *arguments),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two(
    *arguments: str,
    host: str = "127.0.0.1",
    within: Sequence[Sequence[str]] = ((), ()),
    **more: str,
) -> list[Process]:
    """Two processes without torchrun's agent, each within a command of its own."""
    there = {"MASTER_ADDR": host, "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", **more}
    return [
        subprocess.Popen(
            [*within[r], sys.executable, "-m", "wgan", *arguments],
            env=environment(**there, RANK=str(r), LOCAL_RANK="0" if any(within) else str(r)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]


@contextmanager
def ended(processes: Sequence[Process]) -> Iterator[None]:
    """A context that leaves nothing running."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def wait_for(path: Path, processes: Sequence[Process]) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, f"no {path}"
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def worker(run: Path, rank: int) -> int:
    """The id of the process of this rank that trains in a run."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_text().split("\0")
            there = (place / "environ").read_text().split("\0")
        except OSError:
            continue
        ours = "torch.distributed.run" not in command
        if ours and str(run) in command and f"RANK={rank}" in there:
            return int(place.name)
    raise AssertionError(f"rank {rank} of {run} is not there")


def records(run: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if not name.endswith("_seconds")}
        for record in Run.open(run).records()
    ]


def assert_same(one: Path, other: Path) -> None:
    """Two runs are one run up to rounding in fp64: records, weights, files."""
    for record, found in zip(records(one), records(other), strict=True):
        assert found == pytest.approx(record, rel=1e-6, abs=1e-8)
    (mine, _), (found_there, _) = Run.open(one).latest(), Run.open(other).latest()
    assert mine.step == found_there.step
    for name, tensor in mine.tensors.items():
        torch.testing.assert_close(
            found_there.tensors[name], tensor, rtol=1e-9, atol=1e-9, msg=name
        )


def files(run: Path) -> set[str]:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return {re.sub(r"events\.out.*", "events", name) for name in names}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, 40 steps."""
    run = tmp_path_factory.mktemp("one") / "run"
    assert main([*TRAIN, "--steps", "40", "--out", str(run)]) == 0
    return run


def test_torchrun_writes_the_run_of_one_process_and_restarts_from_its_checkpoint(
    one: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = torchrun(*TRAIN, "--steps", "40", "--out", str(run), restarts=1)
    with ended([process]):
        wait_for(run / "checkpoints" / "00000004", [process])
        os.kill(worker(run, 1), signal.SIGKILL)
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said
    card = Run.open(run).card
    assert card["processes"]["count"] == card["resumptions"][0]["processes"]["count"] == 2
    assert 4 <= card["resumptions"][0]["step"] < 40
    assert "another process of this run ended" in said
    assert_same(one, run)
    assert files(run) == files(one)
    assert (run / "config.yaml").read_text() == (one / "config.yaml").read_text()
    assert main(["verify", str(run)]) == 0


def test_a_run_goes_on_with_another_number_of_processes(one: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    shutil.copytree(one, there)
    shutil.copytree(one, back)
    assert main(["resume", str(there), "--steps", "52", "--judge", "0", "--quiet"]) == 0
    # to 48 on two processes, and to 52 on one again
    processes = two("resume", str(back), "--steps", "48", "--judge", "0", "--quiet")
    with ended(processes):
        said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
    assert main(["resume", str(back), "--steps", "52", "--judge", "0", "--quiet"]) == 0
    assert_same(there, back)
    resumed = Run.open(back).card["resumptions"]
    assert [entry["processes"]["count"] for entry in resumed] == [2, 1]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_dies_ends_the_others_in_one_line(killed: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = two(*TRAIN, "--steps", "1000000", "--out", str(run))
    with ended(processes):
        wait_for(run / "checkpoints" / "00000004", processes)
        processes[killed].kill()
        left = processes[1 - killed]
        said = left.communicate(timeout=PATIENCE)[1]  # within a second where nothing else runs
    assert left.returncode == 1
    # torch itself complains, in many lines, where its store was rank 0's and not torchrun's
    (line,) = (line for line in said.splitlines() if line.startswith("wgan:"))
    assert line.startswith("wgan: another process of this run ended or cannot be reached")
    assert line.endswith(f"saved up to its last checkpoint: wgan resume {run}")
    card = Run.open(run).card
    if killed:
        assert card["status"] == "failed"
        assert "another process" in card["reason"]
    step = str(Run.open(run).latest()[0].step + 1)
    assert main(["resume", str(run), "--steps", step, "--judge", "0", "--quiet"]) == 0


def test_a_signal_to_one_rank_stops_all_and_saves(tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = two(*TRAIN, "--steps", "1000000", "--out", str(run))
    with ended(processes):
        wait_for(run / "checkpoints" / "00000004", processes)
        processes[1].send_signal(signal.SIGINT)
        said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert [process.returncode for process in processes] == [143, 130], said
    assert said[0].startswith("stopped at step")
    assert said[1] == ""
    card = Run.open(run).card
    assert card["status"] == "interrupted"
    assert card["step"] == Run.open(run).latest()[0].step == records(run)[-1]["step"]


def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    processes = two(*TRAIN, "--steps", "2", "--out", str(tmp_path / "run"), "--accumulate", "3")
    with ended(processes):
        said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    (line,) = (line for line in "".join(said).splitlines() if not line.startswith("["))
    assert line.startswith("wgan: `batch_size` is 8 and does not share out evenly into 6")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces joined by a cable: 10.77.0.1 and 10.77.0.2."""
    if shutil.which("ip") is None:
        pytest.skip("two hosts need the command `ip`")
    names = tuple(f"wgan{os.getpid()}{side}" for side in "ab")

    def ip(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["ip", *words], capture_output=True, check=False)

    try:
        for name in names:
            if (made := ip("netns", "add", name)).returncode:
                pytest.skip(f"two hosts need network namespaces: {made.stderr.decode().strip()}")
        pair = ip("link", "add", "wgan0", "netns", names[0], "type", "veth", "peer", "wgan0",
                  "netns", names[1])  # fmt: skip
        if pair.returncode:
            pytest.skip(f"two hosts need a cable: {pair.stderr.decode().strip()}")
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "wgan0")
            ip("-n", name, "link", "set", "wgan0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names[0], names[1]
    finally:
        for name in names:
            ip("netns", "delete", name)


def test_two_hosts_are_one(one: Path, hosts: tuple[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = two(
        *(*TRAIN, "--steps", "40", "--out", str(run)),
        host="10.77.0.1",
        within=[("ip", "netns", "exec", host) for host in hosts],
        GLOO_SOCKET_IFNAME="wgan0",
    )
    with ended(processes):
        said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
    assert_same(one, run)


def test_the_card_says_that_there_was_one_process(one: Path) -> None:
    assert json.loads((one / "card.json").read_text())["processes"] == {"count": 1}
