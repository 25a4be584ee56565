"""What a second signal means."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from wgan.cli.signals import Stopper


def send() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_second_signal_insists() -> None:
    with Stopper() as stopper:
        send()
        assert stopper()
        with pytest.raises(KeyboardInterrupt):
            send()


def test_under_torchrun_an_echo_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with Stopper() as stopper:
        send()
        send()
        stopper._heard_at -= 3  # seconds later
        with pytest.raises(KeyboardInterrupt):
            send()
    assert stopper.status == 130


def test_who_fails_under_torchrun_is_not_ended_before_it_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(ValueError, match="why"), Stopper():
            raise ValueError("why")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


SWALLOWED = """
import os, signal, sys
import wgan.cli.app, wgan.cli as cli
def app(*args, **kwargs):
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    except KeyboardInterrupt:
        pass  # as where a library's import of C code is optional
    raise ImportError("already registered")
class App:
    __call__ = staticmethod(app)
    def __contains__(self, name): return True
wgan.cli.app.app = App()
sys.exit(cli.main())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_error_that_an_interrupt_has_left_is_its_end(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED, name], capture_output=True, text=True)
    assert done.stderr == "wgan: stopped\n"
    assert done.returncode == 128 + getattr(signal, name)
