"""Trainings as jobs: each keyed by everything that its accuracy depends on, run at most once, stored when finished."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from fahw.chip.cost import get_rule
from fahw.datasets.dataset import Dataset, load
from fahw.errors import ConfigError, Problem, whole
from fahw.formats.fixed_point import RANDOM_BITS
from fahw.formats.precision import FP32, RoundingModes
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.learn.error_path.feedback import check_trained
from fahw.learn.kernels.device import device_of, settled
from fahw.learn.state.delays import IN_TIME, Delays
from fahw.learn.training.checkpoint import Checkpoint
from fahw.learn.training.checks import check_data, check_rates
from fahw.learn.training.result import EpochRow, TrainResult
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.training.train import train as run_training
from fahw.network.error_path import untrainable
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.network.recipe import Recipe, Tuning
from fahw.optimizers import OPTIMIZERS
from fahw.rules.rule import Rule
from fahw.study.settings import check_folder, with_overrides
from fahw.study.storage.executors import Outcome, run_tasks
from fahw.study.storage.result_files import content_key, versions, write_json
from fahw.study.storage.store import Store

_ARITHMETIC_VERSION = 2
"""Raised whenever the same inputs train to other numbers, so that stored results are not mistaken for new ones;
tests/learn/arithmetic/test_golden.py notices."""

_RESULT: TypeAdapter[TrainResult] = TypeAdapter(TrainResult)

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Job:
    """One training. Its key covers what accuracy depends on: never the chip's clock, memories or energies."""

    setup: TrainingSetup
    data: str
    data_hash: str
    data_dir: Path | None = None
    device: str = "cpu"
    """Integers train to the same bits on any; what floats train to depends on its kind."""

    @cached_property
    def key(self) -> str:
        """Name of the result: equal for equal inputs."""
        return content_key(self.inputs)

    @property
    def _in_integers(self) -> bool:
        return self.setup.precision.is_integer and self.setup.rounding.random_bits == RANDOM_BITS

    @property
    def inputs(self) -> dict[str, Any]:
        """What the result depends on."""
        setup = self.setup
        recipe = setup.recipe.model_dump(exclude={"rules", "data"}) | setup.tuning.model_dump()
        return (
            {
                "version": _ARITHMETIC_VERSION,
                "torch": "any" if self._in_integers else torch.__version__,
                "layers": [asdict(layer) for layer in setup.network.layers],
                "recipe": recipe,
                "rule": setup.rule.name,
                "precision": setup.precision.model_dump(),
                "rounding": setup.rounding.model_dump(),
                "seed": setup.seed,
                "data": self.data_hash,
            }
            | self._way_of_errors
            | ({} if setup.delays == IN_TIME else asdict(setup.delays))
            | self._kind_of_device
        )

    @property
    def _way_of_errors(self) -> dict[str, str]:
        """How the output error reaches the layers, where the network leaves a choice."""
        direct = self.setup.rule.path == "direct"
        network = self.setup.network
        return {"dfa_feedback": network.dfa_feedback, "dfa_residual": network.dfa_residual} if direct else {}

    @property
    def _kind_of_device(self) -> dict[str, str]:
        kind = self.device.partition(":")[0]
        return {} if self._in_integers or kind == "cpu" else {"device": kind}


def make_jobs(
    network: Network, recipe: Recipe, rules: Sequence[str], chip: Chip | None, seeds: Sequence[int], data: Dataset,
    data_dir: Path | None = None, device: str = "cpu",
) -> list[Job]:  # fmt: skip
    """A job for every rule and seed; formats are the chip's, else the model file's, else fp32.

    Raises ConfigError where the recipe wants what the chip does not do.
    """
    _check_chip(recipe, rules, chip)
    precision = chip.precision if chip else network.precision or FP32
    rounding = chip.rounding if chip else RoundingModes()
    check_trained((get_rule(rule) for rule in rules), precision)
    setups = [
        TrainingSetup(network, recipe, get_rule(rule), precision, rounding, seed, _delays(chip, get_rule(rule)))
        for rule in rules
        for seed in seeds
    ]
    check_rates({setup.rule.name: setup for setup in setups}.values())
    return [Job(setup, data.name, data.content_hash, data_dir, device) for setup in setups]


def _delays(chip: Chip | None, rule: Rule) -> Delays:
    """What comes late on the chip under a rule."""
    return Delays(chip.transport_period(rule.reads_weight), chip.update_delay) if chip else IN_TIME


def _check_chip(recipe: Recipe, rules: Sequence[str], chip: Chip | None) -> None:
    wanted = [rule for rule in rules if _keeps(recipe.tuning(rule))]
    if chip is not None and wanted and not chip.update_options.momentum:
        message = f"{chip.name} keeps no velocity (update_options.momentum: false), the recipe has momentum for "
        message += (
            f"{', '.join(wanted)}: set recipe.momentum to 0, or recipe.optimizer to sgd, and recipe.rules likewise"
        )
        raise ConfigError(Problem("recipe.momentum", message))


def _keeps(tuning: Tuning) -> bool:
    """Whether the optimizer needs room for a state; momentum 0 does not."""
    states = OPTIMIZERS[tuning.optimizer].states
    return states > 1 or (states == 1 and tuning.momentum > 0)


def run_job(
    job: Job, on_epoch: Callable[[EpochRow], None] | None = None, checkpoint: Path | None = None
) -> TrainResult:
    """Train one job on one torch thread: small networks are many times slower on more.

    `checkpoint`: the file from which a stopped training goes on, and which a long one keeps up to date.
    """
    keeper = Checkpoint(checkpoint, job.key) if checkpoint else None
    return train_on(job, _data_of(job), on_epoch, keeper)


def train_on(
    job: Job, data: Dataset, on_epoch: Callable[[EpochRow], None] | None = None, checkpoint: Checkpoint | None = None
) -> TrainResult:
    """Train one job on `data`, on one torch thread. Raises ConfigError where its device is not here."""
    device = device_of(job.device)
    with settled(device):
        return run_training(replace(job.setup, device=device), data, on_epoch=on_epoch, checkpoint=checkpoint)


def _data_of(job: Job) -> Dataset:
    """The data set of a job. Raises ConfigError where this machine's is not the one that the job was made for."""
    dataset = _loaded(job.data, job.data_dir, job.setup.recipe.image_size)
    if dataset.content_hash != job.data_hash:  # the file has changed since it was read
        _loaded.cache_clear()
        dataset = _loaded(job.data, job.data_dir, job.setup.recipe.image_size)
    if dataset.content_hash != job.data_hash:
        message = f"'{job.data}' on {socket.gethostname()} is not the data that the study was started with"
        raise ConfigError(Problem("data", message))
    return dataset


@lru_cache(maxsize=2)
def _loaded(name: str, data_dir: Path | None, image_size: tuple[int, int] | None) -> Dataset:
    return load(name, data_dir, image_size)


@dataclass(frozen=True)
class _Task:
    """A job, and the store where its result goes if this machine can reach it."""

    job: Job
    folder: Path


def _run_task(task: _Task) -> TrainResult:
    """Train a job where it was sent. It is stored at once if the store is in reach, and goes back in any case."""
    stored = (task.folder / "store.json").exists()
    result = run_job(task.job, None, checkpoint_path(task.folder, task.job) if stored else None)
    if stored:
        with suppress(OSError):  # a full disk, say: whoever gets the result will find out, and say so
            _keep(Store(task.folder), task.job, result)
    return result


def _keep(store: Store, job: Job, result: TrainResult) -> None:
    if store.run_path(job.key).exists():  # the worker stored it
        return
    manifest = {"key": job.key, "inputs": job.inputs, "data": job.data, "device": job.device, "versions": versions()}
    store.add_run(job.key, _RESULT.dump_python(result), manifest)


def run_all(
    jobs: Sequence[Job], store: Store, workers: int, on_progress: OnProgress, executor: Executor | None = None,
    on_stored: Callable[[Job], None] = lambda job: None, started_pool: Executor | None = None,
) -> dict[str, Outcome[TrainResult]]:  # fmt: skip
    """Train what the store does not have yet; each result is stored as soon as it is done, and a training that fails
    does not stop the others. Returns the outcomes of those that failed, by key. Raises OSError where nothing more can
    be stored. `started_pool`: processes that run already."""
    unique = {job.key: job for job in jobs}
    todo = [job for job in unique.values() if not _finished_before(store, job)]
    cached, failed = len(unique) - len(todo), dict[str, Outcome[TrainResult]]()
    done = cached
    on_progress(done, len(unique), f"{cached} from the store" if cached else "")
    tasks = [_Task(job, store.folder.absolute()) for job in todo]
    for outcome in run_tasks(_run_task, tasks, workers, executor, started_pool):
        job, done = todo[outcome.index], done + 1
        if outcome.value is None:
            failed[job.key] = outcome
        else:
            _keep(store, job, outcome.value)
            on_stored(job)
        counted = f"; {len(failed)} failed" if failed else ""
        on_progress(done, len(unique), f"{job.setup.rule.name}, seed {job.setup.seed}{counted}")
    return failed


def run_jobs(jobs: Sequence[Job], folder: Path, workers: int, on_progress: OnProgress) -> None:
    """`run_all` for a study that needs all of its trainings: the first failure is raised, once the others are done."""
    for outcome in run_all(jobs, Store(folder), workers, on_progress).values():
        assert outcome.fault is not None
        raise outcome.fault


def checkpoint_path(folder: Path, job: Job) -> Path:
    """Where a store keeps a training that is not finished."""
    return folder / "unfinished" / f"{job.key}.pt"


def store_result(folder: Path, result: TrainResult) -> Path:
    """Store a single training as result.json."""
    write_json(folder / "result.json", asdict(result))
    return folder / "result.json"


def load_result(folder: Path, job: Job) -> TrainResult:
    """The stored result of `job`. Raises ConfigError where it is missing or damaged."""
    return stored(Store(folder), job)


def stored(store: Store, job: Job) -> TrainResult:
    """The stored result of `job`. Raises ConfigError where it is missing or damaged."""
    path = store.run_path(job.key)
    try:
        result = _RESULT.validate_python(store.run(job.key))
    except ValidationError as error:
        raise ConfigError(Problem(str(path), f"not a result of a training: {error.errors()[0]['msg']}")) from None
    if (result.rule, result.seed) != (job.setup.rule.name, job.setup.seed) or not 1 <= result.best_epoch <= len(
        result.epochs
    ):
        raise ConfigError(Problem(str(path), "the result of another training"))
    return result


def _finished_before(store: Store, job: Job) -> bool:
    """Whether the store has the result; a damaged one is set aside and trained again."""
    if not store.run_path(job.key).exists():
        return False
    try:
        stored(store, job)
    except ConfigError:
        store.set_aside(job.key)
        return False
    return True


def train(
    network: Network | str | Path,
    rule: str = "bp",
    chip: Chip | str | Path | None = None,
    *,
    data: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    data_dir: Path | None = None,
    on_epoch: Callable[[EpochRow], None] | None = None,
    device: str = "cpu",
) -> TrainResult:
    """Train a network under a rule, in the chip's arithmetic (without a chip: the model file's formats, else fp32).

    `device`: cpu, cuda or cuda:N. Raises ConfigError for unknown names and for data that do not fit the network.
    """
    job = make_job(network, rule, chip, data=data, epochs=epochs, seed=seed, data_dir=data_dir, device=device)
    return run_job(job, on_epoch)


def make_job(
    network: Network | str | Path, rule: str, chip: Chip | str | Path | None, *, data: str | None, epochs: int | None,
    seed: int, data_dir: Path | None, device: str = "cpu",
) -> Job:  # fmt: skip
    """The job of one training, everything checked that can be wrong before it starts."""
    network = network if isinstance(network, Network) else load_model(network)
    chip = chip if isinstance(chip, Chip) or chip is None else load_chip(chip)
    recipe = with_overrides(network.recipe, data=data, epochs=epochs)
    whole("seed", seed, 0, 2**63)
    check_folder("data_dir", data_dir)
    device_of(device)
    untrainable(network)
    dataset = load(recipe.data, data_dir, recipe.image_size)
    check_data(network, recipe, dataset)
    return make_jobs(network, recipe, [get_rule(rule).name], chip, [seed], dataset, data_dir, device)[0]
