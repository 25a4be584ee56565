"""The same WGAN-GP steps as JAX compiles them: the rival of `benchmarks.speed` on small networks.

    pip install jax optax
    python benchmarks/jax_rival.py [--seconds 10]

One jitted function a step: a scan over the critic's updates, then the generator's; sampling, draws,
penalty and Adam within. It needs nothing of this project.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import optax

# width, batch, latent, data's dimension, critic updates, rows of data
ROWS = {
    "digits": (256, 64, 64, 64, 3, 1_797),
    "mlp64": (64, 256, 2, 2, 5, 50_000),
    "mlp128": (128, 256, 2, 2, 5, 50_000),
    "mlp512": (512, 256, 2, 2, 5, 50_000),
}
Layers = list[tuple[Any, Any]]

HIDDEN, WEIGHT = 3, 10.0


def network(key: Any, sizes: list[int]) -> Layers:
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def apply(layers: Layers, x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def critic_loss(
    critic: Layers, generator: Layers, data: Any, key: Any, batch: int, latent: int
) -> Any:
    rows, noise, mix = jax.random.split(key, 3)
    real = data[jax.random.randint(rows, (batch,), 0, len(data))]
    fake = jax.lax.stop_gradient(apply(generator, jax.random.normal(noise, (batch, latent))))
    share = jax.random.uniform(mix, (batch, 1))
    between = share * real + (1 - share) * fake
    slope = jax.grad(lambda x: apply(critic, x).sum())(between)
    penalty = ((jnp.linalg.norm(slope, axis=1) - 1) ** 2).mean()
    return apply(critic, fake).mean() - apply(critic, real).mean() + WEIGHT * penalty


def generator_loss(generator: Layers, critic: Layers, key: Any, batch: int, latent: int) -> Any:
    return -apply(critic, apply(generator, jax.random.normal(key, (batch, latent)))).mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    optimizer = optax.adam(1e-4, b1=0.0, b2=0.9)

    for name, (width, batch, latent, size, updates, count) in ROWS.items():

        def step(
            state: Any,
            data: Any,
            batch: int = batch,
            latent: int = latent,
            updates: int = updates,
        ) -> Any:
            generator, critic, on_generator, on_critic, key = state
            key, last, *keys = jax.random.split(key, updates + 2)

            def update(carry: Any, key: Any) -> Any:
                critic, memory = carry
                loss, gradient = jax.value_and_grad(critic_loss)(
                    critic, generator, data, key, batch, latent
                )
                moves, memory = optimizer.update(gradient, memory)
                return (optax.apply_updates(critic, moves), memory), loss

            (critic, on_critic), losses = jax.lax.scan(update, (critic, on_critic), jnp.stack(keys))
            loss, gradient = jax.value_and_grad(generator_loss)(
                generator, critic, last, batch, latent
            )
            moves, on_generator = optimizer.update(gradient, on_generator)
            generator = optax.apply_updates(generator, moves)
            return (generator, critic, on_generator, on_critic, key), (losses[-1], loss)

        key = jax.random.key(0)
        generator = network(key, [latent] + [width] * HIDDEN + [size])
        critic = network(key, [size] + [width] * HIDDEN + [1])
        state = generator, critic, optimizer.init(generator), optimizer.init(critic), key
        data = jax.random.normal(key, (count, size))
        compiled = jax.jit(step)
        state, seen = compiled(state, data)
        float(seen[0])
        times = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            for _ in range(10):
                state, seen = compiled(state, data)
                float(seen[0]), float(seen[1])
            times.append((time.perf_counter() - start) / 10)
        print(f"{name:<8} {1000 * median(times):8.2f} ms a step", flush=True)


if __name__ == "__main__":
    main()
