"""One table of recipes drives these tests; a recipe is picked up on arrival."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wgan.auto import describe
from wgan.build import build_state, critic_passes
from wgan.config import resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.data.synthetic import Gaussians
from wgan.errors import UserError
from wgan.objectives import Sliced
from wgan.recipes import RECIPES
from wgan.training import TrainState, train
from wgan.training.compiled import Compiled

SMALL: dict[str, Any] = {
    "network": "mlp",
    "width": 32,
    "depth": 2,
    "latent": 2,
    "batch_size": 32,
    "average": 0.9,
    "steps": 4,
}
"""Settings of every test; a recipe's own come on top."""

OWN: dict[str, dict[str, Any]] = {
    "mmd": {"critic_network": "autoencoder-l2", "features": 8},
    "began": {"critic_network": "autoencoder", "features": 1},
    "cramer": {"features": 16},
    "sliced": {"objective": {"n_directions": 50}},
    "sinkhorn": {"objective": {"iterations": 20}},
    "sinkhorn-unbalanced": {"objective": {"iterations": 20, "reach": 3.0}},
}
"""What a recipe needs beside `SMALL` to be quick."""

MOVES: dict[str, dict[str, Any]] = {
    "hinge": {"lr": 5e-4},
    "gan-r1": {"lr": 1e-3, "steps": 400},
    "mmd": {"lr": 5e-4, "steps": 300},
    "began": {"objective": {"rate": 0.05, "diversity": 0.7}},  # at its lr, k must keep up
    "energy": {"lr": 3e-3},
}
"""What a recipe needs beside `OWN` to approach the target in a few hundred steps."""


class Target(Gaussians):
    """N((2, 0), 0.3^2), a displacement of 2 from where a generator starts."""

    name = "target"
    what = "a displaced Gaussian"
    citation = "none"
    centres = np.array([[2.0, 0.0]])
    standard_deviation = 0.3


def settings(recipe: str, **more: Any) -> dict[str, Any]:
    given = {**SMALL, "recipe": recipe, **OWN.get(recipe, {})}
    for name, value in more.items():
        merge = isinstance(value, dict) and isinstance(given.get(name), dict)
        given[name] = {**given[name], **value} if merge else value
    if not RECIPES[recipe].objective.uses_critic:
        given.pop("n_critic", None)
    return given


def start(recipe: str, source: Source, **more: Any) -> TrainState:
    config, _ = resolve(settings(recipe, **more), source, "test")
    return build_state(config, source)


def rows(values: Tensor) -> Source:
    return open_source(values.numpy())


AWKWARD = {
    "constant": torch.ones(64, 5),
    "one-hot": torch.eye(8).repeat(8, 1),
    "pictures": torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("data", AWKWARD)
@pytest.mark.parametrize("recipe", RECIPES)
def test_finite_on_awkward_data(recipe: str, data: str) -> None:
    state = start(recipe, source := rows(AWKWARD[data]))
    for record in train(state, source, until=3):
        values = [v for v in record.values() if isinstance(v, float)]
        assert np.isfinite(values).all(), record
    assert all(t.isfinite().all() for t in state.tensors().values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_pictures_with_the_recipes_own_networks(recipe: str) -> None:
    rng = np.random.default_rng(0)
    source = open_source(rng.integers(0, 256, (100, 16, 16), dtype=np.uint8))
    given = {"recipe": recipe, "width": 4, "batch_size": 8, "steps": 2}
    config, _ = resolve(given, source, "pictures")
    state = build_state(config, source)
    assert RECIPES[recipe].objective.name == config.objective.name
    for record in train(state, source, until=2):
        assert all(np.isfinite(v) for v in record.values() if isinstance(v, float))


NEEDS_TWO = {"cramer", "mmd", "mmd-rq", "energy"}
"""Unbiased estimators have nothing to say of one sample."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_of_one_is_finite_or_refused(recipe: str) -> None:
    source = rows(torch.randn(64, 5, generator=torch.Generator().manual_seed(0)))
    state = start(recipe, source, batch_size=1, generator_batch_size=1)
    if recipe in NEEDS_TWO:
        with pytest.raises(UserError, match="batch size of at least 2"):
            list(train(state, source, until=2))
    else:
        list(train(state, source, until=2))
    assert all(t.isfinite().all() for t in state.tensors().values())


def untimed(state: TrainState, source: Source, until: int) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in record.items() if not k.endswith("_seconds")}
        for record in train(state, source, until=until)
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_deterministic_and_bitwise_resume(recipe: str) -> None:
    source = Target()
    whole, first, second = (start(recipe, source) for _ in range(3))
    records = untimed(whole, source, 4)
    head = untimed(first, source, 2)
    torch.manual_seed(12345)  # whoever reads the global generator is found out
    second.load({k: v.clone() for k, v in first.tensors().items()}, first.plain())
    assert head + untimed(second, source, 4) == records
    expected, got = whole.tensors(), second.tensors()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_moves_a_displaced_gaussian_to_its_target(recipe: str) -> None:
    source = Target()
    more = {"lr": 2e-3, "steps": 200, **MOVES.get(recipe, {})}
    state = start(recipe, source, **more)
    target = source.batch(torch.arange(2000)).values
    latent = torch.randn(2000, 2, generator=torch.Generator().manual_seed(5))

    def distance() -> float:
        with torch.no_grad():
            fake = state.average.eval()(latent)
        return float((fake.mean(0) - target.mean(0)).norm())

    before = distance()
    list(train(state, source, until=more["steps"]))
    assert before > 1
    assert distance() < 0.35 * before


EAGER: dict[str, set[str]] = {
    "wgan-ct": {"critic", "generator"},  # dropout draws its masks within
    "wgan-sn": {"critic"},  # power iterations within
    "sngan": {"critic"},
    "wgan-ts": {"critic"},  # exact transport, outside of torch
    "wgan-qc": {"critic"},
    "max-sliced": {"generator"},  # an ascent of its own
}
"""Losses that torch cannot compile, and that so run eagerly."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_compiled_losses_are_the_eager_ones(recipe: str) -> None:
    torch._dynamo.reset()
    source = Target()
    eager, compiled = (start(recipe, source, precision="fp64") for _ in range(2))
    compiled.compiled = Compiled(compiled.method, "aot_eager")
    records = [untimed(state, source, 2) for state in (eager, compiled)]
    assert set(compiled.compiled.refused) == EAGER.get(recipe, set()), compiled.compiled.refused
    if recipe in ("wgan", "wgan-gp", "wgan-lp", "gan"):  # both networks are chains
        assert compiled.compiled.by_hand
    for one, other in zip(*records, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)  # records are in fp32
    expected = eager.tensors()
    for name, tensor in compiled.tensors().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own code, by itself
@pytest.mark.parametrize(
    ("recipe", "network"), [("wgan", "dcgan"), ("wgan-gp", "dcgan"), ("wgan-gp", "mlp")]
)
def test_compiled_pictures_resume_to_the_bit(recipe: str, network: str) -> None:
    rng = np.random.default_rng(0)
    source = open_source(rng.integers(0, 256, (100, 16, 16), dtype=np.uint8))
    given = {
        "recipe": recipe,
        "network": network,
        "width": 4,
        "batch_size": 8,
        "steps": 4,
        "precision": "fp32",
    }
    given["n_critic"] = 1  # so that the first record is of equal critics: Adam amplifies rounding

    def begun(compiling: str) -> TrainState:
        return build_state(resolve({**given, "compile": compiling}, source, "pictures")[0], source)

    eager, whole, first, second = (begun(c) for c in ("off", "on", "on", "on"))
    expected = untimed(eager, source, 1)
    records = untimed(whole, source, 4)
    assert whole.compiled is not None
    assert not whole.compiled.refused
    for name in ("critic_loss", "critic_gradient_norm"):
        assert records[0][name] == pytest.approx(expected[0][name], rel=1e-4, abs=1e-6)
    head = untimed(first, source, 2)
    second.load({k: v.clone() for k, v in first.tensors().items()}, first.plain())
    assert head + untimed(second, source, 4) == records


DISTANCES = [name for name, r in RECIPES.items() if not r.objective.uses_critic]


@pytest.mark.parametrize("recipe", DISTANCES)
def test_a_distance_between_equal_distributions_is_near_0(recipe: str) -> None:
    """The loss between two batches of the target, against that between target and displaced."""
    source, method = Target(), start(recipe, Target()).method
    x, y = source.batch(torch.arange(500)).values, source.batch(torch.arange(500, 1000)).values
    draw = method.objective.draw(torch.Generator().manual_seed(0), tuple(x.shape))

    def loss(fake: Tensor) -> float:
        fakes = [fake] * method.objective.n_fakes
        state = method.objective.init()
        found, _ = method.objective.generator_loss(lambda v: v, x, fakes, draw, state, 1)  # type: ignore[arg-type, return-value]
        return float(found.value)

    assert abs(loss(y)) < 0.02 * loss(y + torch.tensor([1.0, 0.0]))


PASSES = {"wgan": 11, "wgan-gp": 16, "wgan-ct": 26, "wgan-ts": 11, "r3gan": 6, "energy": 0}
"""By hand: n_critic times (real, fake, penalties), and the generator's."""


@pytest.mark.parametrize("recipe", PASSES)
def test_critic_passes_are_counted(recipe: str) -> None:
    assert critic_passes(recipe) == PASSES[recipe]


def test_auto_changes_fields_of_the_objective_unless_they_are_given() -> None:
    def directions(**given: Any) -> tuple[int, bool]:
        config, departures = resolve({"recipe": "sliced", **given}, Target(), "test")
        assert isinstance(config.objective, Sliced)
        changed = "objective.n_directions" in {departure.field for departure in departures}
        return config.objective.n_directions, changed

    assert directions() == (8, True)
    assert directions(settings="published") == (1000, False)
    assert directions(objective={"n_directions": 50}) == (50, False)
    assert directions(objective={"p": 1}) == (8, True)


def test_auto_batches_are_no_larger_than_the_data() -> None:
    config, _ = resolve({"recipe": "sliced"}, rows(torch.randn(100, 2)), "test")
    assert config.hyper.batch_size == config.hyper.generator_batch_size == 90


@pytest.mark.parametrize("data", ["gaussians8", "digits"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resolved_configuration_resolves_to_itself(recipe: str, data: str) -> None:
    """As it must when a run is opened again, whatever `auto` would say by then."""
    if data == "gaussians8" and RECIPES[recipe].settings.critic_network == "dcgan":
        pytest.skip("a convolutional recipe has no use for points of the plane")
    source = open_source(data)
    config, _ = resolve({"recipe": recipe}, source, data)
    for settings_again in ("auto", "published"):
        given = {**config.plain(), "settings": settings_again}
        again, departures = resolve(given, source, data)
        assert {**again.plain(), "settings": "auto"} == config.plain()
        assert not departures


def test_descriptions_are_complete() -> None:
    for recipe in RECIPES.values():
        found = describe(recipe)
        assert found["source"]
        assert found["meaning"]
        assert found["settings"]["rows 2"]["published"]["batch_size"] >= 1
