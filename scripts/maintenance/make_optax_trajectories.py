"""Record 50 steps of Optax's optimizers, with which tests/baselines/test_parity.py compares ours.

It needs jax and optax, which nothing else here does, so it runs in a separate environment:

    python -m venv outputs/optax && outputs/optax/bin/pip install jax==0.10.2 optax==0.2.8
    outputs/optax/bin/python scripts/maintenance/make_optax_trajectories.py

The arithmetic is float64, but for `lion_bfloat16`: what optax's `mu_dtype=bfloat16` computes from float32 parameters,
operation by operation (compiled, XLA leaves out roundings that the code asks for). The gradients are given, not
computed, so a deviation at one step does not feed the next: small integers times a power of two for each element, 2^-20
to 2^-7, so that they spread from 1e-6 to 1 in size;
one in sixteen is zero, and the first element of each parameter never has any. The learning rate warms up for 5 steps
and falls along a cosine. Every chain ends in Optax's decoupled decay, theta <- theta - lr * (update + decay * theta).

The file holds `lr` (a value a step), `weight_decay`, `recorded` (the steps whose result is kept, counted from 1),
`versions`, and for each parameter P: `start/P`, `gradients/P` (int8, to be multiplied by `scale/P`) and, for each
optimizer O, `O/P`, the parameter after each recorded step; for `lion_bfloat16` also its momentum, `O_momentum/P`.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

STEPS = 50
RECORDED = (1, 2, 5, 20, 50)
WEIGHT_DECAY = 0.1
PEAK_LR = 0.01
IN_STORAGE = "lion_bfloat16"  # float32, not compiled, its momentum kept too
# Only Adafactor is given the large one, both of whose axes reach 32, from where it keeps rows and columns; and Lion in
# bfloat16, where bits are compared.
SHAPES = {"vector": (7,), "matrix": (6, 5), "large": (33, 32)}
OUTPUT = Path(__file__).parents[2] / "tests" / "baselines" / "optax_trajectories.npz"


def transformations() -> dict[str, Any]:
    """Optax's rules, without decay and learning rate, at the settings of conf/optim."""
    import jax.numpy as jnp
    import optax

    def capped(step: Any, exponent: float) -> Any:
        return jnp.minimum(0.999, 1 - jnp.asarray(step + 1, jnp.float64) ** -exponent)

    def adafactor(momentum_dtype: Any) -> Any:
        second = optax.scale_by_factored_rms(min_dim_size_to_factor=32, decay_rate_fn=capped)
        return optax.chain(second, optax.ema(0.9, debias=False, accumulator_dtype=momentum_dtype))

    return {
        "lion": optax.scale_by_lion(b1=0.9, b2=0.99),
        IN_STORAGE: optax.scale_by_lion(b1=0.9, b2=0.99, mu_dtype=jnp.bfloat16),
        "adamw": optax.scale_by_adam(eps=1e-6),
        "adafactor": adafactor(jnp.float64),
        "adafactor_bfloat16": adafactor(jnp.bfloat16),
        "radam": optax.scale_by_radam(),
        "radam_no_eps": optax.scale_by_radam(eps=1e-30),
        "nadam": optax.scale_by_adam(nesterov=True),
        "adabelief": optax.scale_by_belief(),
        "amsgrad": optax.scale_by_amsgrad(),
        "sgd": optax.trace(decay=0.9),
        "sgd_nesterov": optax.trace(decay=0.9, nesterov=True),
        "signum": optax.chain(optax.ema(0.9, debias=False), optax.scale_by_sign()),
    }


def learning_rates() -> np.ndarray[Any, Any]:
    """Linear warmup over 5 steps, then a cosine to zero."""
    step = np.arange(1, STEPS + 1)
    return PEAK_LR * np.minimum(step / 5, 0.5 + 0.5 * np.cos(np.pi * np.maximum(step - 5, 0) / STEPS))


def problem(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Parameters, gradients and the schedule, under the names of the file."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {"lr": learning_rates(), "weight_decay": WEIGHT_DECAY, "recorded": RECORDED}
    for name, shape in SHAPES.items():
        arrays[f"start/{name}"] = rng.normal(size=shape).astype(np.float32)
        gradients = (rng.normal(size=(STEPS, *shape)) * 40 + 10).clip(-127, 127).round()
        gradients[rng.random(gradients.shape) < 1 / 16] = 0
        gradients.reshape(STEPS, -1)[:, 0] = 0
        arrays[f"gradients/{name}"] = gradients.astype(np.int8)
        arrays[f"scale/{name}"] = (2.0 ** rng.integers(-20, -6, size=shape)).astype(np.float32)
    return {name: np.asarray(value) for name, value in arrays.items()}


def trajectory(
    rule: Any, arrays: dict[str, np.ndarray[Any, Any]], names: list[str], in_storage: bool
) -> dict[str, Any]:
    """The parameters after each recorded step, as `/P`; with `in_storage` the momenta, too, as `_momentum/P`."""
    import jax
    import jax.numpy as jnp
    import optax

    dtype = np.float32 if in_storage else np.float64
    lr = jnp.asarray(arrays["lr"], dtype)
    decay, schedule = optax.add_decayed_weights(WEIGHT_DECAY), optax.scale_by_learning_rate(lambda count: lr[count])
    chain = optax.chain(rule, decay, schedule)
    params = {name: jnp.asarray(arrays[f"start/{name}"], dtype) for name in names}
    state = chain.init(params)
    update = chain.update if in_storage else jax.jit(chain.update)
    kept: defaultdict[str, list[Any]] = defaultdict(list)
    for step in range(STEPS):
        grads = {
            name: jnp.asarray(arrays[f"gradients/{name}"][step] * arrays[f"scale/{name}"].astype(np.float64), dtype)
            for name in names
        }
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        if step + 1 in RECORDED:
            for name in names:
                kept[f"/{name}"].append(np.asarray(params[name], dtype))
                if in_storage:
                    kept[f"_momentum/{name}"].append(np.asarray(state[0].mu[name], dtype))
    return {name: np.stack(values) for name, values in kept.items()}


def main() -> None:
    """Write the file and print its content."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"file to write (default: {OUTPUT})")
    parser.add_argument("--seed", type=int, default=0, help="of parameters and gradients (default: 0)")
    options = parser.parse_args()
    try:
        import jax
        import optax
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is not installed in this Python; --help shows how to make one that has it")
    jax.config.update("jax_enable_x64", True)

    arrays = problem(options.seed)
    arrays["versions"] = np.asarray(f"jax {jax.__version__}, optax {optax.__version__}, numpy {np.__version__}")
    for optimizer, rule in transformations().items():
        in_storage = optimizer == IN_STORAGE
        names = list(SHAPES) if in_storage or optimizer.startswith("adafactor") else ["vector", "matrix"]
        for name, values in trajectory(rule, arrays, names, in_storage).items():
            arrays[f"{optimizer}{name}"] = values
    np.savez_compressed(options.output, allow_pickle=False, **arrays)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes, {arrays['versions']}")


if __name__ == "__main__":
    main()
