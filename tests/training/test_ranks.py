"""Two ranks equal one: the same losses, gradients and runs, whatever a batch is shared out among.

The two ranks are started once, as this file run by itself, and leave what they found in files.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import wgan
from wgan.build import build_state
from wgan.config import resolve
from wgan.constraints.slopes import SlopePenalty
from wgan.data import open_source
from wgan.data.base import Source
from wgan.diagnostics import live
from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules import Finding, Rule
from wgan.errors import UserError
from wgan.objectives import Wasserstein
from wgan.recipes import RECIPES
from wgan.run import Run
from wgan.shares import current, sharing, whole
from wgan.training import TrainState, ranks, train
from wgan.training.agreement import require_agreement
from wgan.training.step import (
    _critic_gradient,
    _generator_gradient,
    draw_fakes,
    draw_update,
)
from wgan.types import Critic, Draw, Loss, State

STEPS = 3
ROWS = {"width": 6, "depth": 2, "batch_size": 8, "generator_batch_size": 8, "latent": 3}
PICTURES = {**ROWS, "network": "dcgan", "width": 4}
PICTURES.pop("depth")

CASES: dict[str, dict[str, Any]] = {
    **{f"recipe {name}": {"recipe": name, **ROWS} for name in RECIPES},
    "adaptive": {"recipe": "wgan-gp", "n_critic": 1, "n_critic_max": 5, **ROWS},
    "extragradient": {"recipe": "wgan-gp", "extrapolate": True, "lookahead_every": 2, **ROWS},
    "passes": {"recipe": "wgan", "critic_passes": 2, "clip_norm": 0.1, **ROWS},
    "dropout": {"recipe": "wgan-ct", "dropout": 0.3, **ROWS},
    "spectral generator": {
        "recipe": "sngan",
        "generator_spectral": True,
        "generator_orthogonal": 0.1,
        **ROWS,
    },
    "batch norm": {
        "recipe": "wgan",
        "data": "digits",
        "generator_norm": "batch",
        "critic_norm": "batch",
        **PICTURES,
    },
    "pictures": {"recipe": "wgan-gp", "data": "digits", "generator_norm": "none", **PICTURES},
}
CASES["recipe dcgan"]["network"] = "mlp"
WHOLE = (
    *("cramer", "mmd", "mmd-rq", "sinkhorn", "sinkhorn-unbalanced", "sliced", "max-sliced"),
    *("energy", "wgan-ts", "wgan-qc", "began", "dragan"),
)
"""Recipes that look at a whole batch at once."""
SPLIT = [
    case for case in CASES if case.removeprefix("recipe ") not in WHOLE and case != "batch norm"
]


def state_of(case: str, **more: Any) -> tuple[TrainState, Source]:
    given: dict[str, Any] = {
        "settings": "published",
        "precision": "fp64",
        "seed": 3,
        "warmup": False,
    }
    given = {**given, **CASES[case], **more}
    if not RECIPES[given["recipe"]].objective.uses_critic:
        del given["warmup"]
    name = given.pop("data", "gaussians8")
    source = open_source(name)
    config, _ = resolve(given, source, name)
    return build_state(config, source), source


def first_gradients(case: str) -> dict[str, Tensor]:
    """Of both players, in fp32, before anything has moved; and where penalties look at slopes.

    A critic of ReLUs has the same slope at points that are a little elsewhere.
    """
    state, source = state_of(case, precision="fp32")
    method, found = state.method, {}
    with sharing(ranks.share()):
        if state.critic is not None:
            drawn = draw_update(state, state.next_batch(source, method.batch_size))
            fakes = draw_fakes(state, [drawn])[0]
            for constraint, draw in zip(method.constraints, drawn.penalty_draws, strict=True):
                if isinstance(constraint, SlopePenalty):
                    points = constraint.points(drawn.batch.values, fakes[0], draw)
                    found[f"points.{constraint.name}"] = whole(points.detach(), "the test")
            _critic_gradient(state, state.next_batch(source, method.batch_size))
        _generator_gradient(state, state.next_batch(source, method.generator_batch_size))
    for role, player in state._players():
        for i, parameter in enumerate(player.parameters):
            if parameter.grad is not None:
                found[f"{role}.{i}"] = parameter.grad.clone()
    return found


def run(case: str, **more: Any) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The end of a short run, and its records without their times."""
    state, source = state_of(case, **more)
    records = [
        {name: value for name, value in record.items() if not name.endswith("_seconds")}
        for record in train(state, source, until=STEPS)
    ]
    return {name: tensor.clone() for name, tensor in state.tensors().items()}, records


def every_case(place: Path) -> None:
    """What one of two ranks does."""
    torch.set_num_threads(1)
    ranks.join()
    found: dict[str, Tensor] = {}
    recorded = {}
    for case in CASES:
        found |= {f"{case}/first/{name}": t for name, t in first_gradients(case).items()}
        require_agreement(*state_of(case, precision="fp32"))
        tensors, recorded[case] = run(case)
        found |= {f"{case}/end/{name}": t for name, t in tensors.items()}
    save_file(
        {name: tensor.contiguous() for name, tensor in found.items()},
        place / f"{ranks.rank()}.safetensors",
    )
    (place / f"{ranks.rank()}.json").write_text(json.dumps(recorded))
    diverge(place / "diverged")
    for name in HEEDED:
        heed(place / name, name)


HEEDED = ("critic-under-trained", "learning-rate-too-high")


def heed(place: Path, name: str) -> None:
    """A run with `heed` in which a rule of that name fires once, at full rates."""

    def check(x: Examination) -> Finding | None:
        return None if x.late("rollbacks") > 0 else Finding(name, "it is so", "because", "do so", 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "RULES", [Rule(name, "", "", "ill", "always", check)])
        patch.setattr(live, "_FIRST", 2)
        patch.setattr(live, "_LEAST", 2)
        run = wgan.train(
            "gaussians8",
            out=place,
            steps=8,
            checkpoint_every=2,
            audit_every=0,
            heed=True,
            precision="fp64",
            width=4,
            batch_size=8,
            n_critic=1,
        )
    assert run.step == 8


def diverge(place: Path) -> None:
    """A run whose loss is not finite once, on the second rank alone, and which goes back."""
    plain, left = Wasserstein.critic_loss, ranks.rank()

    def loss(self: Wasserstein, critic: Critic, *given: Any) -> tuple[Loss, State]:
        nonlocal left
        found, state = plain(self, critic, *given)
        if given[-1] == 5 and left:
            left = 0
            found = found._replace(value=found.value * float("nan"))
        return found, state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wasserstein, "critic_loss", loss)
        run = wgan.train(
            "gaussians8",
            out=place,
            steps=6,
            checkpoint_every=2,
            audit_every=0,
            on_divergence="rollback",
            width=4,
            batch_size=8,
        )
    assert run.step == 6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Found:
    place: Path
    tensors: list[dict[str, Tensor]]
    records: list[dict[str, list[dict[str, Any]]]]

    def part(self, rank: int, case: str, part: str) -> dict[str, Tensor]:
        prefix = f"{case}/{part}/"
        mine = self.tensors[rank]
        return {n.removeprefix(prefix): t for n, t in mine.items() if n.startswith(prefix)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What two ranks found in every case."""
    place = tmp_path_factory.mktemp("ranks")
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(place)],
            env={**os.environ, **there, "RANK": str(r), "LOCAL_RANK": str(r)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]
    try:
        said = [process.communicate(timeout=600)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], said
    return Found(
        place,
        [load_file(place / f"{r}.safetensors") for r in range(2)],
        [json.loads((place / f"{r}.json").read_text()) for r in range(2)],
    )


@pytest.mark.parametrize("case", CASES)
def test_the_first_gradient_is_that_of_one_rank(case: str, two: Found) -> None:
    one = first_gradients(case)
    found = two.part(0, case, "first")
    assert one
    assert found.keys() == one.keys()
    points = {name for name in one if name.startswith("points.")}
    largest = max(float(one[name].abs().max()) for name in one.keys() - points)
    for name, gradient in one.items():
        most = 1e-6 * (1.0 if name in points else largest)
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=most)


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_two_ranks_ends_as_one(case: str, two: Found) -> None:
    tensors, records = run(case)
    found = two.part(0, case, "end")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-9, msg=name)
    for record, other in zip(records, two.records[0][case], strict=True):
        assert other == pytest.approx(record, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_both_ranks_hold_the_same_to_the_bit(case: str, two: Found) -> None:
    mine, other = (two.part(rank, case, "end") for rank in range(2))
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert two.records[0][case] == two.records[1][case]


@pytest.mark.parametrize("case", SPLIT)
def test_two_ranks_are_two_parts_to_the_bit(case: str, two: Found) -> None:
    tensors, records = run(case, accumulate=2)
    found = two.part(0, case, "end")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert two.records[0][case] == records


@pytest.mark.parametrize("case", SPLIT)
def test_parts_change_a_run_by_rounding_alone(case: str) -> None:
    require_agreement(*state_of(case, precision="fp32", accumulate=4))
    tensors, _ = run(case)
    found, _ = run(case, accumulate=4)
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("recipe", WHOLE)
def test_what_looks_at_a_whole_batch_refuses_parts(recipe: str) -> None:
    with pytest.raises(UserError, match=r"`accumulate` trains on a part .* looks at all"):
        run(f"recipe {recipe}", accumulate=2)
    assert current().of == 1


def test_one_rank_that_diverges_takes_all_of_them_back(two: Found) -> None:
    run = Run.open(two.place / "diverged")
    assert run.card["rollbacks"][0]["at"] == 5
    assert run.card["rollbacks"][0]["to"] == 4
    assert [r.get("rollbacks", 0) for r in run.records()] == [0, 0, 0, 0, 1, 1]
    assert run.card["processes"]["count"] == 2


@pytest.mark.parametrize("name", HEEDED)
def test_what_is_heeded_reaches_every_rank(name: str, two: Found, tmp_path: Path) -> None:
    heed(tmp_path / "one", name)
    alone, together = Run.open(tmp_path / "one"), Run.open(two.place / name)
    (said,) = together.card["warnings"]
    assert said["done"] == alone.card["warnings"][0]["done"]
    assert said["done"]
    tensors, theirs = alone.latest()[0].tensors, together.latest()[0].tensors
    for key, tensor in tensors.items():
        torch.testing.assert_close(theirs[key], tensor, rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Careless(Wasserstein):
    """A loss that compares samples and does not say so."""

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        x, y = critic(real).score, critic(fakes[0]).score
        return Loss(y.logsumexp(0) - x.mean(), {}), state


def test_a_loss_that_forgets_the_other_shares_is_found() -> None:
    state, source = state_of("recipe wgan-gp", accumulate=2)
    require_agreement(state, source)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    state.method = replace(state.method, objective=Careless())
    with pytest.raises(UserError, match=r"critic's loss on a batch is .* on its 2 shares"):
        require_agreement(state, source)
    assert all(torch.equal(before[name], t) for name, t in state.tensors().items())
    assert state.drawn == 0


@pytest.mark.parametrize(
    ("case", "more", "message"),
    [
        ("recipe wgan-gp", {"batch_size": 10, "accumulate": 4}, "`batch_size` is 10 .* 8 or 12"),
        ("recipe wgan-gp", {"accumulate": 0}, "`accumulate` must be >= 1, got 0"),
        ("batch norm", {"accumulate": 2}, "generator's layer `body.2` normalises over all of it"),
    ],
)
def test_what_cannot_be_split_is_refused(case: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        state_of(case, **more)


def test_restarts_on_several_machines_ask_for_stores_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "WORLD_SIZE": "4",
        "GROUP_WORLD_SIZE": "2",
        "TORCHELASTIC_MAX_RESTARTS": "1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        ranks.join()
    assert ranks.world() == 1


if __name__ == "__main__":
    every_case(Path(sys.argv[1]))
