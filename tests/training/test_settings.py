"""From settings to the method, and what is refused on the way."""

from typing import Any

import pytest

from wgan.config import resolve
from wgan.constraints import OrthogonalRegularisation, SpectralNormalisation
from wgan.data import open_source
from wgan.errors import UserError
from wgan.training import Method


def method(recipe: str = "wgan-gp", **given: Any) -> Method:
    config, _ = resolve({"recipe": recipe, **given}, open_source("gaussians8"), "gaussians8")
    again, _ = resolve(config.plain(), open_source("gaussians8"), "gaussians8")
    assert again.plain() == config.plain()  # a run's own file repeats it
    return config.method()


def test_settings_arrive() -> None:
    found = method(
        optimizer="optimistic-adam", n_critic=3, n_critic_max=9, lookahead_every=5,
        lookahead_share=0.25, generator_spectral=True, generator_orthogonal=0.01,
    )  # fmt: skip
    assert found.generator_optimizer.name == found.critic_optimizer.name == "optimistic-adam"
    assert (found.n_critic, found.n_critic_max) == (3, 9)
    assert (found.lookahead_every, found.lookahead_share) == (5, 0.25)
    held = (SpectralNormalisation(), OrthogonalRegularisation(0.01))
    assert found.generator_constraints == held
    assert method(extrapolate=True).extrapolate
    plain = method()
    assert (plain.n_critic_max, plain.lookahead_every, plain.extrapolate) == (None, None, False)
    assert plain.generator_constraints == ()


def test_where_the_schedule_of_r3gan_ends() -> None:
    published = method("r3gan", settings="published").critic_optimizer
    assert published.at(1.0) == {"lr": pytest.approx(5e-5), "betas": (0.0, 0.99)}
    whole = method("r3gan", settings="published", steps=100)
    assert [0.05 * whole.penalty_share(t) for t in (0.0, 0.5, 1.0)] == pytest.approx(
        [0.05, 0.0275, 0.005]
    )
    assert method("r3gan").penalty_share(0.5) == 1.0  # auto keeps the rate
    constant = method("r3gan", settings="published", schedule="constant").critic_optimizer
    assert (constant.final_lr_share, constant.final_beta2) == (0.0, None)
    rmsprop = method("r3gan", settings="published", optimizer="rmsprop").critic_optimizer
    assert (rmsprop.final_lr_share, rmsprop.final_beta2) == (0.25, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_critic": 4, "n_critic_max": 3}, "`n_critic_max` must be at least `n_critic`, 4"),
        ({"recipe": "energy", "n_critic_max": 3}, "`n_critic_max` is not a setting of this recipe"),
        ({"recipe": "energy", "extrapolate": True}, "`extrapolate` is not a setting of this recip"),
        ({"extrapolate": "yes"}, "`extrapolate` must be true or false, got 'yes'"),
        ({"lookahead_every": 0}, "`lookahead_every` must be >= 1, got 0"),
        ({"lookahead_every": 2.5}, "`lookahead_every` must be a whole number, got 2.5"),
        ({"lookahead_share": 0.3}, "give `lookahead_every` too"),
        ({"lookahead_every": 5, "lookahead_share": 1.5}, r"`lookahead_share` must be in \(0, 1\]"),
        ({"final_lr_share": 0.5}, "`final_lr_share` is where a schedule ends"),
        ({"final_beta2": 0.99}, "`final_beta2` is where a schedule ends"),
        ({"final_penalty_share": 0.5}, "`final_penalty_share` is where a schedule ends"),
        (
            {"schedule": "cosine", "optimizer": "sgd", "final_beta2": 0.99},
            "`final_beta2` is not a setting of optimizer `sgd`",
        ),
        ({"generator_orthogonal": -1.0}, "`weight` must be >= 0, got -1.0"),
        ({"optimizer": "extragradient"}, "unknown optimizer 'extragradient'"),
    ],
)
def test_what_does_not_apply_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        method(**given)
