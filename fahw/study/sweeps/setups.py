"""The points of a sweep with what each leads to: chip, network, recipe, rule, trainings; checked before anything runs.

What many points share (a chip, a network, a training) is made once, and chips are kept packed, so that tens of
thousands of points fit. Mistakes are placed at the value in the sweep's file that brings them about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from fahw.chip.cost import SHARED, get_rule
from fahw.config.files import find_file
from fahw.config.setting import Setting
from fahw.config.sweep import Sweep, expandable, sweep_problems
from fahw.config.validate import Place, sorted_by_place
from fahw.config.yamltext import Key, dotted
from fahw.datasets.dataset import Dataset, check_name, load_dataset
from fahw.errors import MOST_MISTAKES, ConfigError, Problem, check_integer, suggestion
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.part import Form
from fahw.network.error_path import check_trainable
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.network.recipe import Recipe
from fahw.study.costs.cost_record import PackedChip, Request, network_key, pack_chip
from fahw.study.settings import with_overrides
from fahw.study.splits import best_split, has_norms, norm_samples
from fahw.study.sweeps.choices import Choice, one_at_a_time
from fahw.work.training_step import NONE

if TYPE_CHECKING:
    from fahw.study.training import Job


T = TypeVar("T")
_LINE = re.compile(r":\d+:\d+$|^--set ")
TRANSPORTS = (*get_args(Form), SHARED, NONE)


@dataclass(frozen=True)
class Setup:
    """One point before it is priced. `cost_key` names its cost, `network_key` its geometry, `formats` stands for all
    that its arithmetic follows from."""

    values: dict[str, Any]
    request: Request
    recipe: Recipe
    seeds: tuple[int, ...]
    jobs: tuple[Job, ...]
    cost_key: str
    network_key: str
    formats: str


def checked_builder(
    spec: Sweep, place: Place, data_dir: Path | None, with_data: bool = True, device: str = "cpu"
) -> SetupBuilder:
    """The builder of a sweep's points. Raises ConfigError with every wrong axis and value; what each value does alone
    is looked at, so that a wrong one among thousands is said at once."""
    builder = SetupBuilder(spec, place, data_dir, with_data and spec.train, device)
    builder.problems += islice(sweep_problems(spec, place), MOST_MISTAKES)
    builder.problems += _transport_problems(spec, place)
    if builder.problems:
        spec = _without_wrong_transport(expandable(spec))
        builder = SetupBuilder(spec, place, data_dir, False, device, builder.problems)
    builder.build_all(one_at_a_time(spec))
    return builder


def _without_wrong_transport(spec: Sweep) -> Sweep:
    """The sweep without a value of `transport` for all points that is no form of transport."""
    settings = {name: value for name, value in spec.set.items() if name != "transport" or value in TRANSPORTS}
    return spec.model_copy(update={"set": settings})


def _transport_problems(spec: Sweep, place: Place) -> Iterator[Problem]:
    """A problem for every value of `transport`, set or on an axis, that is no form of transport."""
    forms: list[tuple[Key, Any]] = [(("set", "transport"), spec.set[key]) for key in spec.set if key == "transport"]
    for name, axis_key, axis in spec.axis_keys():
        if name == "transport" and isinstance(axis, tuple):
            forms += [((*axis_key, index), form) for index, form in enumerate(axis)]
    for key, form in forms:
        if form not in TRANSPORTS:
            message = f"no transport {form!r}{suggestion(str(form), TRANSPORTS)}; known: {', '.join(TRANSPORTS)}"
            yield Problem(place(key), message, dotted(key))


@dataclass(frozen=True)
class _ChipFacts:
    """A packed chip, and text that stands for its number formats, its rounding and what comes late on it."""

    packed: PackedChip
    formats: str
    micro_batch: int | Literal["best"] | None

    def unpack(self) -> Chip:
        """The chip itself, with its micro-batch."""
        return self.packed.unpack().model_copy(update={"micro_batch": self.micro_batch})


@dataclass(frozen=True)
class _NetworkFacts:
    """A network, and the key that stands for its geometry."""

    network: Network
    key: str


class SetupBuilder:
    """Builds the setups of a sweep's points; keeps what they share, and the problems that it meets."""

    def __init__(
        self,
        spec: Sweep,
        place: Place,
        data_dir: Path | None,
        with_data: bool,
        device: str,
        problems: Iterable[Problem] = (),
    ) -> None:
        self._spec, self._place, self._data_dir, self._with_data = spec, place, data_dir, with_data
        self._device = device
        self._results: dict[Any, Any] = {}
        self.problems = list(problems)

    def build_all(self, choices: Iterable[Choice]) -> list[Setup]:
        """The setup of every choice. Raises ConfigError with every problem met, where there are very many the first."""
        within = takewhile(lambda _: len(self.problems) < MOST_MISTAKES, choices)
        made = [self.build(choice) for choice in within]
        if self.problems:
            raise ConfigError(sorted_by_place(self.problems))
        return [setup for setup in made if setup is not None]

    def build(self, choice: Choice) -> Setup | None:
        """The setup of one choice; None where something is wrong."""
        spec = self._spec
        keys: dict[str, Key] = {key: ("set", key) for key in spec.set} | choice.keys
        settings = {**spec.set, **choice.values}
        chip_facts = self._loaded_facts(_chip_facts, "hwconfigs", "chip", settings, keys)
        network_facts = self._loaded_facts(_network_facts, "models", "model", settings, keys)
        rule_name = settings.get("rule", "bp")
        rule = self._made_once(("rule", repr(rule_name)), keys.get("rule", ()), lambda: get_rule(rule_name).name)
        recipe = self._recipe(network_facts.network if network_facts else None, settings, keys)
        seeds = self._seeds(settings, keys)
        if chip_facts is None or network_facts is None or rule is None or recipe is None or seeds is None:
            return None
        request = Request(chip_facts.packed, network_facts.network, rule, recipe.batch_size, settings.get("transport"))
        request, trained_chip = self._split(request, chip_facts, network_facts)
        jobs = self._jobs(network_facts.network, recipe, rule, trained_chip, seeds, keys) if self._with_data else ()
        if jobs is None:
            return None
        parts: tuple[Any, ...] = (chip_facts.packed.key, network_facts.key, rule, recipe.batch_size)
        parts = (*parts, request.transport, request.micro_batch)
        key = self._made_once(("cost", *parts), None, lambda: request.key(network_facts.key))
        assert key is not None
        return Setup(choice.values, request, recipe, seeds, jobs, key, network_facts.key, trained_chip.formats)

    def _split(
        self, request: Request, chip: _ChipFacts, network: _NetworkFacts
    ) -> tuple[Request, _ChipFacts]:  # fmt: skip
        """The request, and the chip in whose arithmetic its point trains: where training depends on how a batch is
        split, both with the split that is best for the point, if the chip asks for that."""
        trained, batch = self._trained_chip(chip, request.transport), request.batch_size
        if not self._with_data or not has_norms(network.network) or chip.micro_batch is None:
            return request, trained
        if chip.micro_batch == "best":
            key = ("split", chip.packed.key, network.key, request.rule, batch, request.transport)
            size = self._made_once(key, None, partial(_best_split, request))
            request, trained = replace(request, micro_batch=size), replace(trained, micro_batch=size)
        else:
            size = chip.micro_batch
        formats = f"{trained.formats} {norm_samples(network.network, batch, size)}"
        return request, replace(trained, formats=formats)

    def _trained_chip(self, chip: _ChipFacts, transport: Any) -> _ChipFacts:
        """The chip in whose arithmetic a point trains: the fair baseline has one weight memory, and no stale copy."""
        if transport != SHARED:
            return chip
        key = ("baseline", chip.packed.key)
        baseline = self._made_once(key, None, lambda: _facts_of_chip(chip.packed.unpack().without_feedback_memory()))
        assert baseline is not None
        return baseline

    def _loaded_facts(
        self, load: Callable[..., T], folder: str, kind: str, settings: dict[str, Any], keys: dict[str, Key]
    ) -> T | None:
        """Facts of the chip or the model (`kind`), loaded with the settings that concern it; None where that failed."""
        name, prefix = str(settings.get(kind, getattr(self._spec, kind))), f"{kind}."
        texts = {key: json.dumps(settings[key], ensure_ascii=False) for key in settings if key.startswith(prefix)}
        path = self._made_once((folder, name), keys.get(kind, (kind,)), lambda: find_file(name, folder, kind))
        if path is None:
            return None

        def load_placed() -> T:
            placed_texts = {
                key.removeprefix(prefix): Setting(text, self._place(keys[key])) for key, text in texts.items()
            }
            try:
                return load(path, placed_texts)
            except ConfigError as error:
                raise ConfigError(self._with_places(keys.get(kind, (kind,)), error.problems)) from None

        return self._made_once((kind, name, *texts.items()), None, load_placed)

    def _recipe(self, network: Network | None, settings: dict[str, Any], keys: dict[str, Key]) -> Recipe | None:
        """The recipe of the point; None where it is wrong. What is set for the whole sweep is checked also where there
        is no network."""
        spec = self._spec
        overrides = {name: settings.get(name, getattr(spec, name, None)) for name in ("data", "epochs", "batch_size")}
        checked_values = [
            self._made_once(
                (name, repr(value)), keys.get(name, (name,)), partial(_with_overrides, Recipe(), {name: value})
            )
            for name, value in overrides.items()
        ]
        if None in checked_values:
            return None
        key = ("recipe", id(network), *map(repr, overrides.values()))
        recipe = self._made_once(key, (), partial(_with_overrides, network.recipe, overrides)) if network else None
        name = overrides["data"] or (recipe.data if recipe and spec.train else None)
        if name is None:  # what a model file recommends is not asked for where nothing is trained
            return recipe

        def data_is_known() -> bool:
            check_name(name, self._data_dir)
            return True

        return recipe if self._made_once(("data", name), keys.get("data", ("data",)), data_is_known) else None

    def _seeds(self, settings: dict[str, Any], keys: dict[str, Key]) -> tuple[int, ...] | None:
        """The seeds of the point: the value of its axis `seed`, else the sweep's; None where it is no seed."""
        if "seed" not in settings:
            return self._spec.seed_list
        seed = settings["seed"]

        def check() -> tuple[int, ...]:
            check_integer("seed", seed, 0, 2**63)
            return (seed,)

        return self._made_once(("seed", repr(seed)), keys["seed"], check)

    def _jobs(
        self, network: Network, recipe: Recipe, rule: str, chip: _ChipFacts, seeds: tuple[int, ...],
        keys: dict[str, Key],
    ) -> tuple[Job, ...] | None:  # fmt: skip
        """The trainings of the point, one for each seed; None where the data set is missing or does not fit."""
        from fahw.learn.training.checks import check_data  # loads torch, which a sweep of costs does without
        from fahw.study.training import make_jobs

        name, size = recipe.data, recipe.image_size
        data_key = keys.get("data", ("data",) if self._spec.data else keys.get("model", ("model",)))
        data: Dataset | None = self._made_once(
            ("set", name, size), data_key, lambda: load_dataset(name, self._data_dir, size)
        )
        if data is None:
            return None

        def data_fits() -> bool:
            check_trainable(network)
            check_data(network, recipe, data)
            return True

        if not self._made_once(("fit", id(recipe)), keys.get("model", ("model",)), data_fits):
            return None
        return self._made_once(
            ("jobs", id(recipe), rule, chip.formats, seeds), (),
            lambda: tuple(
                make_jobs(network, recipe, [rule], chip.unpack(), seeds, data, self._data_dir, self._device)
            ),
        )  # fmt: skip

    def _made_once(self, key: Any, keys: Key | None, make: Callable[[], T]) -> T | None:
        """What `make` returns, called once for all points of this `key`; None where it raised ConfigError, whose
        problems are kept, placed at `where` if given."""
        if key not in self._results:
            self._results[key] = None
            try:
                self._results[key] = make()
            except ConfigError as error:
                self.problems += error.problems if keys is None else self._placed_at(keys, error.problems)
        made: T | None = self._results[key]
        return made

    def _with_places(self, keys: Key, problems: tuple[Problem, ...]) -> Iterator[Problem]:
        """The problems; one of a whole file, such as that it cannot be read, is placed where the sweep names that."""
        for problem in problems:
            if _LINE.search(problem.place):
                yield problem
            else:
                yield replace(problem, place=self._place(keys), message=f"{problem.place}: {problem.message}")

    def _placed_at(self, keys: Key, problems: tuple[Problem, ...]) -> Iterator[Problem]:
        """The problems, placed at a key of the sweep's file."""
        for problem in problems:
            yield replace(problem, place=self._place(keys), key=dotted(keys) or problem.place)


def _with_overrides(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe with `overrides` in place of its own values."""
    return with_overrides(recipe, **overrides)


def _chip_facts(path: Path, settings: dict[str, Setting]) -> _ChipFacts:
    """The facts of the chip in a file."""
    return _facts_of_chip(load_chip(path, settings))


def _facts_of_chip(chip: Chip) -> _ChipFacts:
    """The facts of a chip."""
    period = chip.transport_period(reads_weight=True)
    delays = f"{period}/{chip.update_delay}/{chip.update_options.momentum}"
    formats = f"{chip.precision.model_dump_json()}{chip.rounding.model_dump_json()}{delays}"
    return _ChipFacts(pack_chip(chip), formats, chip.micro_batch)


def _best_split(request: Request) -> int | None:
    """The micro-batch that is best for a point; None where the chip cannot host it, as its price will say."""
    arguments = request.network, request.rule, request.batch_size, request.transport
    try:
        return best_split(request.chip.unpack(), *arguments)
    except ConfigError:
        return None


def _network_facts(path: Path, settings: dict[str, Setting]) -> _NetworkFacts:
    """The facts of the network in a file."""
    network = load_model(path, settings)
    return _NetworkFacts(network, network_key(network))
