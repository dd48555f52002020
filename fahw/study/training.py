"""Trainings as jobs: each keyed by everything that its accuracy depends on, run at most once, stored when finished."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from fahw.chip.cost import get_rule
from fahw.datasets.dataset import Dataset, load_dataset
from fahw.errors import ConfigError, Problem, check_integer
from fahw.formats.fixed_point import RANDOM_BITS
from fahw.formats.precision import FP32, RoundingModes
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.learn.error_path.feedback import check_trained
from fahw.learn.kernels.device import device_of, torch_settings
from fahw.learn.state.delays import IN_TIME, Delays
from fahw.learn.training.checkpoint import Checkpoint, remove_checkpoint
from fahw.learn.training.checks import check_data, check_rates
from fahw.learn.training.result import EpochRow, TrainResult, check_rows
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.training.train import train as run_training
from fahw.network.error_path import check_learning, check_trainable
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.network.recipe import Recipe, Tuning
from fahw.optimizers import OPTIMIZERS
from fahw.rules.catalogue import stored_name
from fahw.rules.rule import Rule
from fahw.study.settings import check_folder, with_overrides
from fahw.study.splits import norm_samples_on
from fahw.study.storage.executors import Outcome, run_tasks
from fahw.study.storage.result_files import content_key, versions, write_json
from fahw.study.storage.store import Store

_ARITHMETIC_VERSION = 2
"""Raised whenever the same inputs train to other numbers, so that stored results are not mistaken for new ones;
tests/learn/arithmetic/test_golden.py notices."""

UNFINISHED = "unfinished.state"
"""The name of the checkpoint in the folder of a single training."""
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
    """cpu, cuda or cuda:N. Integers train to the same bits on any; what floats train to depends on the kind."""

    @cached_property
    def key(self) -> str:
        """The name of the result in a store: equal for equal inputs."""
        return content_key(self.inputs)

    @property
    def _in_integers(self) -> bool:
        """Whether the training computes in integers, to the same bits on any device and version of torch."""
        return self.setup.precision.is_integer and self.setup.rounding.random_bits == RANDOM_BITS

    @property
    def inputs(self) -> dict[str, Any]:
        """All that the result depends on, from which the key follows."""
        setup = self.setup
        recipe = setup.recipe.model_dump(exclude={"rules", "data"}) | setup.tuning.model_dump()
        return (
            {
                "version": _ARITHMETIC_VERSION,
                "torch": "any" if self._in_integers else torch.__version__,
                "layers": [layer.description() for layer in setup.network.layers],
                "recipe": recipe,
                "rule": stored_name(setup.rule),
                "precision": setup.precision.model_dump(),
                "rounding": setup.rounding.model_dump(),
                "seed": setup.seed,
                "data": self.data_hash,
            }
            | self._error_path_inputs
            | ({} if setup.delays == IN_TIME else asdict(setup.delays))
            | ({} if setup.norm_samples is None else {"norm_samples": setup.norm_samples})
            | self._device_inputs
        )

    @property
    def _error_path_inputs(self) -> dict[str, str]:
        """How the output error reaches the layers, where the network leaves a choice."""
        direct = self.setup.rule.path == "direct"
        network = self.setup.network
        return {"dfa_feedback": network.dfa_feedback, "dfa_residual": network.dfa_residual} if direct else {}

    @property
    def _device_inputs(self) -> dict[str, str]:
        """The kind of device, where floats depend on it."""
        device_kind = self.device.partition(":")[0]
        return {} if self._in_integers or device_kind == "cpu" else {"device": device_kind}


def make_jobs(
    network: Network, recipe: Recipe, rules: Sequence[str], chip: Chip | None, seeds: Sequence[int], data: Dataset,
    data_dir: Path | None = None, device: str = "cpu",
) -> list[Job]:  # fmt: skip
    """A job for every rule and seed; formats are the chip's, else the model file's, else fp32. Batch norms take their
    statistics over a micro-batch of the chip; where it asks for the best, over that of the rule under the chip's first
    form of transport.

    Raises ConfigError where the recipe wants what the chip does not do, and where a split is wanted that is best for a
    rule that the chip cannot host.
    """
    _check_state_is_kept(recipe, rules, chip)
    precision = chip.precision if chip else network.precision or FP32
    rounding = chip.rounding if chip else RoundingModes()
    check_trained((get_rule(rule) for rule in rules), precision)
    for rule in rules:
        check_learning(network, get_rule(rule))
    splits = {rule: norm_samples_on(chip, network, rule, recipe.batch_size) for rule in rules}
    setups = [
        TrainingSetup(
            network, recipe, get_rule(rule), precision, rounding, seed, _delays(chip, get_rule(rule)),
            norm_samples=splits[rule],
        )
        for rule in rules
        for seed in seeds
    ]  # fmt: skip
    check_rates({setup.rule.name: setup for setup in setups}.values())
    return [Job(setup, data.name, data.content_hash, data_dir, device) for setup in setups]


def _delays(chip: Chip | None, rule: Rule) -> Delays:
    """The delays of transports and updates on the chip under a rule."""
    return Delays(chip.transport_period(rule.reads_weight), chip.update_delay) if chip else IN_TIME


def _check_state_is_kept(recipe: Recipe, rules: Sequence[str], chip: Chip | None) -> None:
    """Raise ConfigError where a rule's optimizer needs a state that the chip does not keep."""
    with_state = [rule for rule in rules if _needs_state(recipe.tuning(rule))]
    if chip is not None and with_state and not chip.update_options.momentum:
        message = f"{chip.name} keeps no velocity (update_options.momentum: false), the recipe has momentum for "
        message += (
            f"{', '.join(with_state)}: set recipe.momentum to 0, or recipe.optimizer to sgd, and recipe.rules likewise"
        )
        raise ConfigError(Problem("recipe.momentum", message))


def _needs_state(tuning: Tuning) -> bool:
    """Whether the optimizer keeps a state; with momentum 0 it does not."""
    states = OPTIMIZERS[tuning.optimizer].states
    return states > 1 or (states == 1 and tuning.momentum > 0)


def run_job(
    job: Job, on_epoch: Callable[[EpochRow], None] | None = None, checkpoint: Path | None = None
) -> TrainResult:
    """Train one job on one torch thread: small networks are many times slower on more.

    `checkpoint`: the file from which a stopped training goes on, and which a long one keeps up to date; who stores the
    result removes it then.
    """
    checkpoint_file = Checkpoint(checkpoint, job.key) if checkpoint else None
    return train_on(job, _data_of(job), on_epoch, checkpoint_file)


def train_on(
    job: Job, data: Dataset, on_epoch: Callable[[EpochRow], None] | None = None, checkpoint: Checkpoint | None = None
) -> TrainResult:
    """Train one job on `data`, on one torch thread. Raises ConfigError where its device is not here."""
    device = device_of(job.device)
    with torch_settings(device):
        return run_training(job.setup.on(device), data, on_epoch=on_epoch, checkpoint=checkpoint)


def _data_of(job: Job) -> Dataset:
    """The data set of a job. Raises ConfigError where this machine's is not the one that the job was made for."""
    dataset = _loaded_data(job.data, job.data_dir, job.setup.recipe.image_size)
    if dataset.content_hash != job.data_hash:  # the file has changed since it was read
        _loaded_data.cache_clear()
        dataset = _loaded_data(job.data, job.data_dir, job.setup.recipe.image_size)
    if dataset.content_hash != job.data_hash:
        message = f"'{job.data}' on {socket.gethostname()} is not the data that the study was started with"
        raise ConfigError(Problem("data", message))
    return dataset


@lru_cache(maxsize=2)
def _loaded_data(name: str, data_dir: Path | None, image_size: tuple[int, int] | None) -> Dataset:
    """The data set of this name, kept for the jobs that share it."""
    return load_dataset(name, data_dir, image_size)


@dataclass(frozen=True)
class _Task:
    """A job, and the folder of the store where its result goes if this machine can reach it."""

    job: Job
    folder: Path


def _run_task(task: _Task) -> TrainResult:
    """Train a job where it was sent. It is stored at once if the store is in reach, and goes back in any case."""
    has_store = os.path.exists(task.folder / "store.json")  # false too where this process may not look
    result = run_job(task.job, None, checkpoint_path(task.folder, task.job) if has_store else None)
    if has_store:
        with suppress(OSError, ConfigError):  # a full disk, say: whoever gets the result will find out, and say so
            _add_to_store(Store(task.folder), task.job, result)
    return result


def _add_to_store(store: Store, job: Job, result: TrainResult) -> None:
    """Store a result with its manifest, unless the worker has stored it; its checkpoint is of no use then."""
    if not store.run_path(job.key).exists():
        manifest = {"key": job.key, "inputs": job.inputs, "data": job.data, "device": job.device}
        store.add_run(job.key, _RESULT.dump_python(result), manifest | {"versions": versions()})
    remove_checkpoint(checkpoint_path(store.folder, job))


def run_missing(
    jobs: Sequence[Job], store: Store, workers: int, on_progress: OnProgress, executor: Executor | None = None,
    on_stored: Callable[[Job], None] = lambda job: None, started_pool: Executor | None = None,
) -> dict[str, Outcome[TrainResult]]:  # fmt: skip
    """Train what the store does not have yet; each result is stored as soon as it is done, and a training that fails
    does not stop the others. Returns the outcomes of those that failed, by key. Raises OSError where nothing more
    can be stored. `started_pool`: processes that run already."""
    unique = {job.key: job for job in jobs}
    missing = [job for job in unique.values() if not _is_stored(store, job)]
    stored_count, failed = len(unique) - len(missing), dict[str, Outcome[TrainResult]]()
    done = stored_count
    on_progress(done, len(unique), f"{stored_count} from the store" if stored_count else "")
    tasks = [_Task(job, store.folder.absolute()) for job in missing]
    for outcome in run_tasks(_run_task, tasks, workers, executor, started_pool):
        job, done = missing[outcome.index], done + 1
        if outcome.value is None:
            failed[job.key] = outcome
        else:
            _add_to_store(store, job, outcome.value)
            on_stored(job)
        failures = f"; {len(failed)} failed" if failed else ""
        on_progress(done, len(unique), f"{job.setup.rule.name}, seed {job.setup.seed}{failures}")
    return failed


def run_jobs(jobs: Sequence[Job], folder: Path, workers: int, on_progress: OnProgress) -> None:
    """`run_missing` for a study that needs all of its trainings: the first failure is raised, once the others are
    done."""
    for outcome in run_missing(jobs, Store(folder), workers, on_progress).values():
        assert outcome.fault is not None
        raise outcome.fault


def checkpoint_path(folder: Path, job: Job) -> Path:
    """The file in a store's folder that keeps a training which is not finished."""
    return folder / "unfinished" / f"{job.key}.state"


def store_result(folder: Path, result: TrainResult) -> Path:
    """Store a single training as result.json in `folder`, whose checkpoint is of no use then. Returns the path of the
    file."""
    write_json(folder / "result.json", asdict(result))
    remove_checkpoint(folder / UNFINISHED)
    return folder / "result.json"


def load_result(folder: Path, job: Job) -> TrainResult:
    """The result of `job` in the store at `folder`. Raises ConfigError where it is missing or damaged."""
    return stored_result(Store(folder), job)


def stored_result(store: Store, job: Job) -> TrainResult:
    """The result of `job` in a store. Raises ConfigError where it is missing or damaged."""
    path = store.run_path(job.key)
    try:
        result = _RESULT.validate_python(store.run(job.key))
    except ValidationError as error:
        raise ConfigError(Problem(str(path), f"not a result of a training: {error.errors()[0]['msg']}")) from None
    if (result.rule, result.seed) != (job.setup.rule.name, job.setup.seed) or not 1 <= result.best_epoch <= len(
        result.epochs
    ):
        raise ConfigError(Problem(str(path), "the result of another training"))
    try:
        check_rows(result.epochs, job.setup.network)
    except ValueError as error:
        raise ConfigError(Problem(str(path), f"not a result of this training: {error}")) from None
    return result


def _is_stored(store: Store, job: Job) -> bool:
    """Whether the store has the result; a damaged one is set aside and trained again."""
    if not store.run_path(job.key).exists():
        return False
    try:
        stored_result(store, job)
    except ConfigError:
        store.set_aside(job.key)
        return False
    remove_checkpoint(checkpoint_path(store.folder, job))  # of a run that was killed just after it stored the result
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
    """The job of one training. Raises ConfigError for all that can be wrong before it starts."""
    network = network if isinstance(network, Network) else load_model(network)
    chip = chip if isinstance(chip, Chip) or chip is None else load_chip(chip)
    recipe = with_overrides(network.recipe, data=data, epochs=epochs)
    check_integer("seed", seed, 0, 2**63)
    check_folder("data_dir", data_dir)
    device_of(device)
    check_trainable(network)
    dataset = load_dataset(recipe.data, data_dir, recipe.image_size)
    check_data(network, recipe, dataset)
    return make_jobs(network, recipe, [get_rule(rule).name], chip, [seed], dataset, data_dir, device)[0]
