"""The models that ``experiments.attack`` attacks: runs, rivals of their defenses, the bound."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta.data.harmful import CHOOSING
from jaxmeta.distributed.parallel import by_shard_map, devices_for, replicate
from jaxmeta.evaluate import summarize
from jaxmeta.keys import streams
from jaxmeta.learners.attacks import check_parts
from jaxmeta.objectives.blocked import attacked_state
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import build_model, build_objective
from jaxmeta.runs.measure import judged
from jaxmeta.train import init_train_state, outer_loop
from jaxmeta.types import Model, Objective, PyTree, Source

from .attacking import SCRATCH, Attacked, Cell, Probe, Setting, Target, attacked

RIVALS = ("noise", "reset")
RATE = 1e-3
"""Of Adam, by which a model is healed."""


class Loaded(NamedTuple):
    """A run that is attacked.

    Attributes:
      name: its folder's, without the number of its seed.
      seed: that number, or 0.
      config: its config.
      params: what it has learned.
      state: its state.
    """

    name: str
    seed: int
    config: Mapping[str, Any]
    params: PyTree
    state: PyTree


class World(NamedTuple):
    """Runs of one desired task and its harmful ones.

    Attributes:
      runs: the first has no defense.
      model: the features that all have.
      ways: classes of a harmful episode.
      sources: of the desired, harmful and benign classes.
      about: what tells this world from others.
      trust: packages whose functions the runs' configs may name.
    """

    runs: Sequence[Loaded]
    model: Model
    ways: int
    sources: Mapping[str, Source]
    about: Mapping[str, Any]
    trust: Sequence[str]


def load(folders: Sequence[Path], data_dir: str | None, trust: Sequence[str]) -> World:
    """Reads the runs.

    Raises:
      ValueError: a folder holds no run, or one without a desired part; the runs differ in data or
        model; two have one name and seed, or the name of a rival; all have the first one's name; or
        there are no harmful classes.
    """
    runs: list[Loaded] = []
    for folder in folders:
        config = workdir.read_config(folder)
        if "objective" not in config["objective"]:
            raise ValueError(
                f"'{folder}' is trained with {config['objective']['make']}, which has no desired "
                "part: give runs whose objective is jaxmeta.objectives.blocked or booster; with a "
                "weight of 0 it is no defense."
            )
        restored = workdir.restore(folder, trust=trust)
        name, _, seed = folder.name.rpartition("_")
        named = (name, int(seed)) if name and seed.isdigit() else (folder.name, 0)
        if named in [(each.name, each.seed) for each in runs] or named[0] == SCRATCH:
            raise ValueError(
                f"'{folder}' is called {named[0]} with seed {named[1]}, which is taken: rename it."
            )
        runs.append(Loaded(*named, config, restored.params, restored.state))
    first = runs[0].config
    if all(each.name == runs[0].name for each in runs):
        raise ValueError(
            f"All of the runs are seeds of '{runs[0].name}': give one of another name as well."
        )
    for folder, each in zip(folders, runs, strict=True):
        for field in ("data", "model", "ways"):
            if each.config[field] != first[field]:
                raise ValueError(
                    f"'{folder}' and '{folders[0]}' differ in config.{field}: give runs of one "
                    "world."
                )
    sources = tasks.load_sources(first, data_dir, trust=trust)
    missing = [split for pair in CHOOSING.items() for split in pair if split not in sources]
    if missing:
        raise ValueError(
            f"The data of '{folders[0]}' have no split '{missing[0]}': give runs on data such as "
            "jaxmeta.data.harmful_classes makes."
        )
    about = {field: first[field] for field in ("data", "model", "ways", "mixed_precision")}
    about["data_dir"] = data_dir
    return World(runs, build_model(first, trust), first["ways"], sources, about, trust)


def check_episodes(
    world: World, setting: Setting, splits: Sequence[str], shots: Sequence[int]
) -> None:
    """Raises ``ValueError``, before anything is computed, for too few examples or parts."""
    check_parts(world.runs[0].params["model"], 2)
    for split in splits:
        for each in (split, CHOOSING[split]):
            for count in shots:
                world.sources[each].episodes(
                    ways=setting.ways, shots=count, queries=setting.queries
                )


def targets_of(
    world: World, rivals: Sequence[str], heal: int
) -> tuple[list[Target], dict[tuple[str, int], float]]:
    """All models in the order of the table, and the accuracy of each on the desired task.

    Args:
      world: the runs.
      rivals: which of :data:`RIVALS`.
      heal: steps of the desired task before attacks; 0 for none.
    """
    plain = world.runs[0]
    first = next(each for each in world.runs if each.name != plain.name)
    runs = [*world.runs]
    keys = jax.random.split(streams(0).init)
    if "noise" in rivals:
        # The averages are those of its own statistics.
        runs.append(trained(world, noisy(plain, first, keys[0]), 50, 0.0))
    if "reset" in rivals:
        runs.append(trained(world, last_reset(world, plain, keys[1]), max(heal, 50), RATE))
    targets, desired = [], {}
    for each in runs:
        healed = trained(world, each, heal, RATE) if heal else None
        targets.append(
            Target(
                each.name,
                each.seed,
                attackable(each.params),
                attacked_state(each.state),
                None
                if healed is None
                else (attackable(healed.params), attacked_state(healed.state)),
            )
        )
        desired[each.name, each.seed] = desired_accuracy(world, each)
    targets.insert(1, Target(SCRATCH, 0, {}, ()))
    return targets, desired


def attackable(params: PyTree) -> PyTree:
    """What an adversary is given."""
    return {"model": params["model"]}


def noisy(plain: Loaded, defended: Loaded, key: jax.Array) -> Loaded:
    """The plain model, each of whose parameters is moved at random as far as by the defense."""
    leaves, structure = jax.tree.flatten(plain.params["model"])
    moved = jax.tree.leaves(defended.params["model"])
    noise = []
    for leaf, other, own in zip(leaves, moved, jax.random.split(key, len(leaves)), strict=True):
        step = jax.random.normal(own, leaf.shape, leaf.dtype)
        noise.append(step * jnp.linalg.norm(other - leaf) / jnp.linalg.norm(step))
    model = jax.tree.unflatten(structure, [a + b for a, b in zip(leaves, noise, strict=True)])
    return plain._replace(name=f"{plain.name} + noise", params={**plain.params, "model": model})


def last_reset(world: World, plain: Loaded, key: jax.Array) -> Loaded:
    """The plain model, whose last part is initialized anew."""
    source = world.sources["test"]
    assert source.whole is not None
    x = jax.eval_shape(source.whole, source.data, key).x
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), x)
    fresh, _ = world.model.init(key, jax.tree.map(lambda leaf: leaf[:2], zeros))
    last = list(fresh)[-1]
    model = {**plain.params["model"], last: fresh[last]}
    return plain._replace(name=f"{plain.name}, reset", params={**plain.params, "model": model})


def desired_objective(config: Mapping[str, Any], trust: Sequence[str]) -> Objective:
    """The desired part of a defense's objective."""
    own = config["objective"]["objective"]
    part = {"make": "jaxmeta.objectives.on_part", "objective": own, "part": "desired"}
    return build_objective({**config, "objective": part}, trust)


def trained(world: World, run: Loaded, steps: int, rate: float) -> Loaded:
    """The model after further steps of the desired task."""
    source, config = world.sources["train"], run.config
    sample = tasks.training_sampler(source, config)
    devices = devices_for(config["meta_batch"])
    optimizer = optax.adam(rate) if rate else optax.set_to_zero()
    loop = outer_loop(
        desired_objective(config, world.trust),
        optimizer,
        sample,
        config["meta_batch"],
        spread=by_shard_map(devices),
    )
    start = init_train_state(optimizer, run.params, run.state)
    begun, data = replicate((start, source.data), devices)
    after, _ = loop(begun, data, streams(1).train, steps)
    return run._replace(params=after.params, state=after.state)


def desired_accuracy(world: World, run: Loaded) -> float:
    """The accuracy on test examples of the desired classes."""
    name = next(iter(run.config["evaluations"]))
    tried = judged(run.config, name, world.sources, "test", world.trust)
    devices = jax.devices()
    program = tried.program(2, run.config["chunk"], by_shard_map(devices))
    data = world.sources["test"].data
    given = replicate((run.params, run.state, data, streams(0).test), devices)
    return summarize(program(*given)[next(iter(tried.metrics))]).mean


def kept(
    target: Target,
    setting: Setting,
    probe: Probe,
    split: str,
    shots: int,
    folder: Path,
    about: Mapping[str, Any],
) -> Attacked:
    """The best attack on a model of a world, from the folder if it is known."""
    settled = {**setting._asdict(), "grid": sorted(setting.grid), "world": about}
    about = json.loads(json.dumps({**settled, "digest": digest_of(target)}))
    name = target.name.replace(" ", "_").replace(",", "")
    path = folder / "attacks" / f"{name}_{target.seed}_{split}_{shots}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    if stored.get("about") != about:
        best = attacked(target, setting, probe, split, CHOOSING[split], shots)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {**best._asdict(), "cell": best.cell._asdict()}
        workdir.write_atomically(path, json.dumps({"about": about, "found": found}))
        stored = json.loads(path.read_text())
    found = stored["found"]
    return Attacked(**{**found, "cell": Cell(**found["cell"])})


def digest_of(target: Target) -> str:
    """What tells a model from another one in the same place."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves((target.params, target.state, target.healed)):
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()
