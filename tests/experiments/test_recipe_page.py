"""The page of the benchmark says what its numbers say."""

import re
from typing import Any

from wgan.experiments.recipe_page import page


def result(
    recipe: str,
    w1: float,
    *,
    data: str = "gaussians8",
    seed: int = 0,
    modes: int = 8,
    passes: dict[int, float] | None = None,
    moved: float = 0.0,
    failed: str | None = None,
    settings: str = "auto",
) -> dict[str, Any]:
    counted = {} if data == "digits" else {"modes": modes, "of": 8, "near": 0.9}
    measures = {"nn_accuracy": 0.6, **counted}
    far = 0.2 if data == "digits" else w1  # pictures are judged by their Frechet distance
    return {
        "trial": {
            "recipe": recipe,
            "data": data,
            "seed": seed,
            "seconds": 60.0,
            "settings": settings,
        },
        "failed": failed,
        "departures": ["n_critic 5 -> 2: quicker"],
        "steps": 600,
        "seconds": 60.0,
        "critic_passes": None if passes is None else max(passes),
        "end": {"w1": far, "frechet": w1, **measures},
        "floor": {"w1": 0.05, "frechet": 5.0, **measures},
        "by_passes": [{"critic_passes": k, "w1": v} for k, v in (passes or {}).items()],
        "looks": [{"modes": modes, "moved": moved}] * 20,
        "versions": {"torch": "2"},
    }


def test_tables_are_sorted_and_show_seeds_as_mean_and_range() -> None:
    found = page(
        [
            result("hinge", 0.3),
            *[result("wgan-gp", w1, seed=seed) for seed, w1 in enumerate((0.06, 0.08, 0.10))],
        ]
    )
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \|", found, re.MULTILINE)
    assert rows == [("wgan-gp", "0.080 (0.060-0.100)"), ("hinge", "0.300")]


def test_advice_follows_the_numbers() -> None:
    results = [
        result("wgan-gp", 0.08, passes={8192: 0.1}),
        result("sliced", 0.06),
        result("hinge", 0.5, modes=3, passes={8192: 0.09}),
        result("wgan-gp", 10.0, data="digits", passes={8192: 12.0}),
        result("sliced", 30.0, data="digits"),
        result("hinge", 11.0, data="digits", passes={8192: 13.0}),
    ]
    found = page(results)
    assert "**To begin with: `wgan-gp`.**" in found
    assert "`sliced` is number 1 of 3 on gaussians8; `sliced` is number 3 of 3 on digits" in found
    assert "2 of 3 recipes find all 8 Gaussians" in found
    assert "(floor 0.050): `sliced`, `wgan-gp`." in found
    assert "`hinge` (gaussians8: 3 of 8 modes)" in found
    assert "after 8,192 on gaussians8 the nearest to the data are `hinge` (0.090)" in found
    assert "`sliced` (digits: Frechet distance 30)" in found


def test_passes_are_compared_where_most_recipes_arrive() -> None:
    names = ("wgan-gp", "wgan-lp", "gan", "hinge", "lsgan")
    many = [result(name, 0.1, passes={8192: 0.3, 16384: 0.2}) for name in names[:4]]
    found = page([*many, result("lsgan", 0.1, passes={8192: 0.4}), result("sliced", 0.1)])
    assert "W1 after 16,384 passes" in found
    cells = dict(re.findall(r"^\| `(.*?)` .*\| (\S+) \|$", found, re.MULTILINE))
    assert (cells["gan"], cells["lsgan"], cells["sliced"]) == ("0.200", "-", "-")


def test_failures_are_shown_failing() -> None:
    dead = {**result("mmd", 1.0, seed=1), "failed": "its process ended with status -9"}
    for key in ("end", "floor"):
        del dead[key]
    found = page([result("mmd", 0.05), dead, result("gan-r1", 0.07, failed="not finite at 7")])
    assert "0 of 2 recipes find all 8 Gaussians" in found
    assert "- `mmd`: its process ended with status -9" in found
    assert "- `gan-r1`: not finite at 7" in found
    assert "`gan-r1` (gaussians8: stopped early)" in found
    none = {key: value for key, value in dead.items() if key != "looks"}
    none["trial"] = {**none["trial"], "recipe": "dcgan"}
    assert "`dcgan` (gaussians8: no result)" in page([result("gan-r1", 0.07), none])


def test_the_standard_gan_is_said_to_do_what_it_did() -> None:
    calm = page([result("gan", 0.1)])
    assert "it does not collapse, and does not rotate" in calm
    wild = page([result("gan", 0.9, modes=2, moved=0.7), result("gan", 0.1, seed=1, moved=0.7)])
    assert "ends with 2, 8 of 8 modes" in wild
    assert "it collapses from 1 of 2, and rotates" in wild
    assert "70% of its latents" in wild


def test_published_settings_stand_beside_the_auto_ones_of_the_same_seed() -> None:
    found = page(
        [
            result("wgan", 0.05),
            result("wgan", 0.07, seed=1),
            result("wgan", 0.9, modes=2, settings="published"),
            result("hinge", 0.3, modes=6),
            result("hinge", 0.09, settings="published"),
        ]
    )
    assert "| `wgan` | 0.900 | 0.050 | 2 | 8 | n_critic 5 -> 2 |" in found
    assert "of `auto` (below) do not: `wgan`. The other way round: `hinge`." in found
    assert "| `wgan` | 0.060 (0.050-0.070) |" in found
