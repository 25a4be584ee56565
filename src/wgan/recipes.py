"""Published methods as named compositions: an objective, its constraints, its settings.

Everything here is as published; what changes on a laptop is in `wgan.auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wgan.constraints import (
    R1,
    R2,
    Consistency,
    Constraint,
    Dragan,
    GradientPenalty,
    Orthogonal,
    SpectralNormalisation,
    WeightClipping,
)
from wgan.errors import UnknownNameError
from wgan.objectives import (
    BoundaryEquilibrium,
    Cramer,
    Energy,
    GaussianMmd,
    Hinge,
    LeastSquares,
    MaxSliced,
    Objective,
    QuadraticCost,
    RationalQuadraticMmd,
    Relativistic,
    Sinkhorn,
    Sliced,
    Standard,
    TwoStep,
    Wasserstein,
)


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a recipe. None: decided by the network, or not a setting it has.

    Attributes:
        batch_size: Real samples in a critic update, over all processes.
        generator_batch_size: Fake samples in a generator update; None: `batch_size`.
        n_critic: Batches that the critic sees per step.
        n_critic_max: Batches that it sees at most, while a probe says that it still gains; None:
            always `n_critic`.
        critic_passes: Updates that it makes on each.
        warmup: 100 critic batches in each of the first 25 steps and in every 500th.
        extrapolate: Extragradient: both players look a step ahead before they move.
        lookahead_every: Steps after which both players go back towards where they were; None:
            never.
        lookahead_share: How far they then keep of the way they went; 0.5 is published.
        optimizer: adam, adamw, optimistic-adam, rmsprop or sgd, for both players.
        generator_lr, critic_lr: Learning rates.
        beta1, beta2: Of the Adams; `beta1` is the momentum of SGD.
        alpha: Of RMSProp.
        schedule: Of both rates: constant, linear or cosine.
        final_lr_share: What a schedule leaves of the rates at the end.
        final_penalty_share: What a schedule leaves of the constraints' penalties at the end.
        final_beta2: Where a schedule has taken `beta2` at the end; None: it stays.
        clip_norm: Largest norm of a gradient; None: any.
        average: Decay of the generator's running average; 0: none.
        latent: Length of a latent vector.
        generator_network, critic_network: By name; None: dcgan for pictures with sides
            of 16 and more, else mlp.
        width: Units (mlp, 512) or filters (dcgan and resnet, 64).
        depth: Hidden layers of an mlp (3) or blocks of a resnet (6); a dcgan's follows from the
            picture.
        generator_norm: none, layer or batch; None: batch for a dcgan or resnet, none otherwise.
        generator_spectral: Whether the generator's weights are spectrally normalised too.
        generator_orthogonal: Weight of orthogonal regularisation of the generator; 0: none.
        critic_norm: The same; None: none.
        dropout: Share of hidden units that the critic drops; None: none.
        features: Features that the critic gives before its score; None: its last hidden layer.
        steps: Length of a run.
    """

    batch_size: int = 64
    generator_batch_size: int | None = None
    n_critic: int = 5
    n_critic_max: int | None = None
    critic_passes: int = 1
    warmup: bool = False
    extrapolate: bool = False
    lookahead_every: int | None = None
    lookahead_share: float = 0.5
    optimizer: str = "adam"
    generator_lr: float = 1e-4
    critic_lr: float = 1e-4
    beta1: float | None = 0.0
    beta2: float | None = 0.9
    alpha: float | None = None
    schedule: str = "constant"
    final_lr_share: float = 0.0
    final_beta2: float | None = None
    final_penalty_share: float = 1.0
    clip_norm: float | None = None
    average: float = 0.0
    latent: int = 64
    generator_network: str | None = None
    critic_network: str | None = None
    width: int | None = None
    depth: int | None = None
    generator_norm: str | None = None
    generator_spectral: bool = False
    generator_orthogonal: float = 0.0
    critic_norm: str | None = None
    dropout: float | None = None
    features: int | None = None
    steps: int = 100_000


@dataclass(frozen=True)
class Recipe:
    """A published method.

    Attributes:
        name: On the command line.
        title: In a sentence.
        source: Authors and title.
        year: Of publication.
        objective: What the players minimise.
        constraints: What keeps the critic Lipschitz.
        settings: As published.
        auto: Settings of its own that `auto` changes, with the reason.
        pictures: What is different for pictures with sides of 16 and more: fields of this class.
    """

    name: str
    title: str
    source: str
    year: int
    objective: Objective
    constraints: tuple[Constraint, ...] = ()
    settings: Settings = Settings()
    auto: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)

    def on(self, kind: str, shape: tuple[int, ...]) -> Recipe:
        """The recipe for data of this kind and shape."""
        if not self.pictures or fits(kind, shape) != "dcgan":
            return self
        return replace(self, **self.pictures)


_TRANSPORT = Settings(n_critic=0, steps=20_000)
_FEATURES = 128  # of the classifier behind a transport loss on pictures
_ON_FEATURES = Settings(n_critic=1, beta1=0.5, beta2=0.999, features=_FEATURES, steps=20_000)
_RMSPROP = Settings(
    optimizer="rmsprop", generator_lr=5e-5, critic_lr=5e-5, beta1=None, beta2=None, alpha=0.99
)
_DCGAN = Settings(
    batch_size=128, n_critic=1, generator_lr=2e-4, critic_lr=2e-4, beta1=0.5, beta2=0.999
)

_GULRAJANI = "Gulrajani et al.: Improved Training of Wasserstein GANs"
_GOODFELLOW = "Goodfellow et al.: Generative Adversarial Nets"
_TOY = Settings(
    batch_size=256, n_critic=5, beta1=0.5, latent=2, generator_network="mlp", critic_network="mlp"
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # -- Wasserstein distance by a constrained critic
        Recipe(
            "wgan",
            "The Wasserstein GAN: a critic kept Lipschitz by clipping its weights",
            "Arjovsky, Chintala, Bottou: Wasserstein Generative Adversarial Networks, Algorithm 1",
            2017,
            Wasserstein(),
            (WeightClipping(0.01),),
            replace(_RMSPROP, critic_norm="batch", steps=200_000),
        ),
        Recipe(
            "wgan-gp",
            "The Wasserstein GAN with a penalty on the critic's slope between real and fake",
            f"{_GULRAJANI}, Algorithm 1",
            2017,
            Wasserstein(),
            (GradientPenalty(10.0),),
            Settings(critic_norm="layer", steps=200_000),
        ),
        Recipe(
            "wgan-gp-toy",
            "wgan-gp as its paper ran it on data in the plane",
            f"{_GULRAJANI}, section 4.1 and released code",
            2017,
            Wasserstein(),
            (GradientPenalty(0.1),),
            replace(_TOY, steps=100_000),
        ),
        Recipe(
            "wgan-lp",
            "As wgan-gp, but only slopes above 1 are penalised",
            "Petzka, Fischer, Lukovnicov: On the regularization of Wasserstein GANs",
            2018,
            Wasserstein(),
            (GradientPenalty(10.0, one_sided=True),),
            Settings(generator_lr=2e-4, critic_lr=2e-4, critic_norm="layer"),
        ),
        Recipe(
            "wgan-ct",
            "wgan-gp with a term that makes the critic consistent around the data",
            "Wei et al.: Improving the Improved Training of Wasserstein GANs",
            2018,
            Wasserstein(),
            (GradientPenalty(10.0), Consistency(2.0)),
            Settings(dropout=0.5, steps=200_000),
        ),
        Recipe(
            "wgan-sn",
            "The Wasserstein objective with a spectrally normalised critic; our composition",
            "Arjovsky et al. 2017; Miyato et al. 2018",
            2018,
            Wasserstein(),
            (SpectralNormalisation(),),
            Settings(generator_lr=2e-4, critic_lr=2e-4),
        ),
        Recipe(
            "wgan-orthogonal",
            "The Wasserstein objective with a critic that is 1-Lipschitz by construction",
            "Anil, Lucas, Grosse: Sorting out Lipschitz function approximation",
            2019,
            Wasserstein(),
            (Orthogonal(),),
            Settings(generator_lr=1e-3, critic_lr=1e-3),
        ),
        Recipe(
            "wgan-ts",
            "The critic is fitted to the potentials of the exact transport between batches",
            "Liu, Gu, Samaras: A Two-Step Computation of the Exact GAN Wasserstein Distance",
            2018,
            TwoStep(),
            (),
            Settings(n_critic=1, critic_passes=5, beta1=0.5, beta2=0.999),
        ),
        Recipe(
            "wgan-qc",
            "The critic is fitted to the potentials of transport with quadratic cost",
            "Liu, Gu, Samaras: Wasserstein GAN with Quadratic Transport Cost",
            2019,
            QuadraticCost(),
            (),
            Settings(n_critic=1, beta1=0.5, beta2=0.999),
        ),
        # -- classifiers
        Recipe(
            "gan",
            "The standard GAN in its minimax form",
            _GOODFELLOW,
            2014,
            Standard("minimax"),
            (),
            replace(_DCGAN, critic_norm="batch", steps=50_000),
        ),
        Recipe(
            "gan-ns",
            "The standard GAN with the generator's loss that does not saturate",
            f"{_GOODFELLOW}, section 3",
            2014,
            Standard("non-saturating"),
            (),
            replace(_DCGAN, critic_norm="batch", steps=50_000),
        ),
        Recipe(
            "dcgan",
            "gan-ns with the convolutional networks of DCGAN, whatever the data's size",
            "Radford, Metz, Chintala: Unsupervised Representation Learning with Deep "
            "Convolutional GANs",
            2015,
            Standard("non-saturating"),
            (),
            replace(
                _DCGAN,
                critic_norm="batch",
                latent=100,
                generator_network="dcgan",
                critic_network="dcgan",
                steps=50_000,
            ),
        ),
        Recipe(
            "dragan",
            "gan-ns with a slope penalty around the data",
            "Kodali et al.: On Convergence and Stability of GANs",
            2017,
            Standard("non-saturating"),
            (Dragan(10.0),),
            Settings(batch_size=128, n_critic=1, beta1=0.5, beta2=0.9),
        ),
        Recipe(
            "gan-r1",
            "gan-ns with a penalty on the critic's slope at the data",
            "Mescheder, Geiger, Nowozin: Which Training Methods for GANs do actually Converge?",
            2018,
            Standard("non-saturating"),
            (R1(10.0),),
            replace(
                _RMSPROP,
                batch_size=64,
                n_critic=1,
                generator_lr=1e-4,
                critic_lr=1e-4,
                average=0.999,
            ),
        ),
        Recipe(
            "r3gan",
            "A relativistic GAN with slope penalties at real and fake samples",
            "Huang et al.: The GAN is dead; long live the GAN! A Modern Baseline GAN",
            2024,
            Relativistic(),
            (R1(0.05), R2(0.05)),
            Settings(
                n_critic=1,
                generator_lr=2e-4,
                critic_lr=2e-4,
                beta1=0.0,
                beta2=0.9,
                schedule="cosine",
                final_lr_share=0.25,
                final_beta2=0.99,
                final_penalty_share=0.1,
                average=0.999,
            ),
        ),
        Recipe(
            "lsgan",
            "Least squares in place of the logistic loss",
            "Mao et al.: Least Squares Generative Adversarial Networks",
            2017,
            LeastSquares(),
            (),
            replace(_DCGAN, batch_size=64, critic_norm="batch"),
        ),
        Recipe(
            "hinge",
            "The geometric GAN: hinge losses",
            "Lim, Ye: Geometric GAN",
            2017,
            Hinge(),
            (),
            replace(_RMSPROP, n_critic=1, generator_lr=2e-4, critic_lr=2e-4),
        ),
        Recipe(
            "sngan",
            "Hinge losses and a spectrally normalised critic",
            "Miyato et al.: Spectral Normalization for Generative Adversarial Networks",
            2018,
            Hinge(),
            (SpectralNormalisation(),),
            Settings(generator_batch_size=128, generator_lr=2e-4, critic_lr=2e-4),
        ),
        # -- kernels and features
        Recipe(
            "cramer",
            "The energy distance of learned features",
            "Bellemare et al.: The Cramer Distance as a Solution to Biased Wasserstein Gradients",
            2017,
            Cramer(),
            (GradientPenalty(10.0),),
            Settings(beta1=0.5, features=256),
        ),
        Recipe(
            "mmd",
            "Gaussian kernels on the codes of an autoencoding critic",
            "Li et al.: MMD GAN: Towards Deeper Understanding of Moment Matching Network",
            2017,
            GaussianMmd(),
            (WeightClipping(0.01, part="encoder"),),
            replace(_RMSPROP, warmup=True, critic_network="autoencoder-l2"),
        ),
        Recipe(
            "mmd-rq",
            "Rational quadratic kernels on learned features, with a slope penalty",
            "Binkowski et al.: Demystifying MMD GANs",
            2018,
            RationalQuadraticMmd(),
            (GradientPenalty(1.0),),
            Settings(beta1=0.5, features=16),
        ),
        Recipe(
            "began",
            "An autoencoder as critic, its two errors held in equilibrium",
            "Berthelot, Schumm, Metz: BEGAN",
            2017,
            BoundaryEquilibrium(),
            (),
            Settings(
                batch_size=16,
                n_critic=1,
                beta1=0.5,
                beta2=0.999,
                critic_network="autoencoder",
                features=64,
            ),
        ),
        # -- transport without a critic
        Recipe(
            "sliced",
            "Transport along random lines through the data; no critic",
            "Deshpande, Zhang, Schwing: Generative Modeling using the Sliced Wasserstein Distance",
            2018,
            Sliced(n_directions=1000),
            (),
            replace(_TRANSPORT, beta1=0.5, beta2=0.999),
            pictures={
                "title": "Transport along random lines through the features of a classifier",
                "objective": Sliced(n_directions=1000, on="features", n_features=_FEATURES),
                "settings": _ON_FEATURES,
            },
        ),
        Recipe(
            "max-sliced",
            "Transport along the line in which data and samples differ most; no critic",
            "Deshpande et al.: Max-Sliced Wasserstein Distance and its use for GANs",
            2019,
            MaxSliced(),
            (),
            replace(_TRANSPORT, beta1=0.5, beta2=0.999),
            pictures={
                "title": "Transport along the line in which learned features differ most",
                "objective": MaxSliced(on="features", n_features=_FEATURES),
                "settings": _ON_FEATURES,
            },
        ),
        Recipe(
            "sinkhorn",
            "Entropic transport between batches, debiased; no critic",
            "Genevay, Peyre, Cuturi 2018; Feydy et al. 2019",
            2018,
            Sinkhorn(),
            (),
            _TRANSPORT,
            pictures={
                "title": "Entropic transport between batches of learned features, debiased",
                "objective": Sinkhorn(blur=0.5, on="features"),
                "constraints": (SpectralNormalisation(),),
                "settings": _ON_FEATURES,
            },
        ),
        Recipe(
            "sinkhorn-unbalanced",
            "As sinkhorn, but mass farther than `reach` is not moved",
            "Sejourne et al.: Sinkhorn Divergences for Unbalanced Optimal Transport",
            2019,
            Sinkhorn(reach=1.0),
            (),
            _TRANSPORT,
            pictures={
                "title": "As sinkhorn, but features farther apart than `reach` are not matched",
                "objective": Sinkhorn(blur=0.5, reach=10.0, on="features"),
                "constraints": (SpectralNormalisation(),),
                "settings": _ON_FEATURES,
            },
        ),
        Recipe(
            "energy",
            "The energy distance of the data; no critic",
            "Szekely, Rizzo: Energy statistics",
            2013,
            Energy(),
            (),
            _TRANSPORT,
        ),
    )
}

NETWORK_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 512, "depth": 3, "generator_norm": "none"},
    "dcgan": {"width": 64, "depth": None, "generator_norm": "batch"},
    "dcgan-constant": {"width": 64, "depth": None, "generator_norm": "none"},
    "resnet": {"width": 64, "depth": 6, "generator_norm": "batch"},
}
"""What a network has in the papers where a recipe does not say otherwise; the resnet's depth is
ours, of 20 layers (33 blocks make the 101 layers of Gulrajani et al. 2017)."""


def get_recipe(name: str) -> Recipe:
    """The recipe of this name; raises `UnknownNameError` with the nearest one."""
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]


def fits(kind: str, shape: tuple[int, ...]) -> str:
    """The network for data of this shape: dcgan for pictures of 16 and more a side, else mlp."""
    return "dcgan" if kind == "image" and min(shape[1:]) >= 16 else "mlp"
