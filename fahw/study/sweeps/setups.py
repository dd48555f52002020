"""The points of a sweep with what each leads to: chip, network, recipe, rule, trainings; checked before anything runs.

What many points share (a chip, a network, a training) is made once, and chips are kept packed, so that tens of
thousands of points fit. Mistakes are placed at the value in the sweep's file that brings them about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from fahw.chip.cost import SHARED, get_rule
from fahw.config.files import find_file
from fahw.config.setting import Setting
from fahw.config.sweep import Sweep, expandable, sweep_problems
from fahw.config.validate import Place, sorted_by_place
from fahw.config.yamltext import Key, dotted
from fahw.datasets.dataset import Dataset, check_name, load_dataset
from fahw.errors import ConfigError, Problem, check_integer, suggestion
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.hardware.part import Form
from fahw.network.error_path import check_trainable
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.network.recipe import Recipe
from fahw.study.costs.cost_record import PackedChip, Request, network_key, pack
from fahw.study.settings import with_overrides
from fahw.study.sweeps.points import Choice, alone
from fahw.work.training_step import NONE

if TYPE_CHECKING:
    from fahw.study.training import Job


T = TypeVar("T")
FORMS = (*get_args(Form), SHARED, NONE)


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


def checked(spec: Sweep, place: Place, data_dir: Path | None, with_data: bool = True, device: str = "cpu") -> Maker:
    """What makes the points of a sweep. Raises ConfigError with every wrong axis and value; what each value does alone
    is looked at, so that a wrong one among thousands is said at once."""
    maker = Maker(spec, place, data_dir, with_data and spec.train, device)
    maker.problems += sweep_problems(spec, place)
    maker.problems += _wrong_forms(spec, place)
    if maker.problems:
        spec = _without_form(expandable(spec))
        maker = Maker(spec, place, data_dir, False, device, maker.problems)
    maker.all_of(alone(spec))
    return maker


def _without_form(spec: Sweep) -> Sweep:
    """The sweep without a form of transport that is none at all."""
    kept = {name: value for name, value in spec.set.items() if name != "transport" or value in FORMS}
    return spec.model_copy(update={"set": kept})


def _wrong_forms(spec: Sweep, place: Place) -> Iterator[Problem]:
    given: list[tuple[Key, Any]] = [(("set", "transport"), spec.set[key]) for key in spec.set if key == "transport"]
    for name, at, axis in spec.axis_keys():
        if name == "transport" and isinstance(axis, tuple):
            given += [((*at, index), form) for index, form in enumerate(axis)]
    for key, form in given:
        if form not in FORMS:
            message = f"no transport {form!r}{suggestion(str(form), FORMS)}; known: {', '.join(FORMS)}"
            yield Problem(place(key), message, dotted(key))


@dataclass(frozen=True)
class _ChipFacts:
    packed: PackedChip
    formats: str


@dataclass(frozen=True)
class _NetworkFacts:
    network: Network
    key: str


class Maker:
    """Makes points; keeps what they share, and the problems that it meets."""

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
        self._made: dict[Any, Any] = {}
        self.problems = list(problems)

    def all_of(self, choices: Iterable[Choice]) -> list[Setup]:
        """The point of every choice. Raises ConfigError with every problem met."""
        made = [self.setup(choice) for choice in choices]
        if self.problems:
            raise ConfigError(sorted_by_place(self.problems))
        return [setup for setup in made if setup is not None]

    def setup(self, choice: Choice) -> Setup | None:
        """The point of these values; None where something is wrong."""
        spec = self._spec
        where: dict[str, Key] = {key: ("set", key) for key in spec.set} | choice.where
        settings = {**spec.set, **choice.values}
        chip = self._loaded(_chip_facts, "hwconfigs", "chip", settings, where)
        found = self._loaded(_network_facts, "models", "model", settings, where)
        name = settings.get("rule", "bp")
        rule = self._once(("rule", repr(name)), where.get("rule", ()), lambda: get_rule(name).name)
        recipe = self._recipe(found.network if found else None, settings, where)
        seeds = self._seeds(settings, where)
        if chip is None or found is None or rule is None or recipe is None or seeds is None:
            return None
        trained = self._trained(chip, settings.get("transport"))
        jobs = self._jobs(found.network, recipe, rule, trained, seeds, where) if self._with_data else ()
        if jobs is None:
            return None
        request = Request(chip.packed, found.network, rule, recipe.batch_size, settings.get("transport"))
        parts = (chip.packed.key, found.key, rule, recipe.batch_size, request.transport)
        key = self._once(("cost", *parts), None, lambda: request.key(found.key))
        assert key is not None
        return Setup(choice.values, request, recipe, seeds, jobs, key, found.key, trained.formats)

    def _trained(self, chip: _ChipFacts, transport: Any) -> _ChipFacts:
        """The chip in whose arithmetic a point trains: the fair baseline has one weight memory, and no stale copy."""
        if transport != SHARED:
            return chip
        key = ("baseline", chip.packed.key)
        derived = self._once(key, None, lambda: _facts_of(chip.packed.unpack().without_feedback_memory()))
        assert derived is not None
        return derived

    def _loaded(
        self, load: Callable[..., T], folder: str, what: str, settings: dict[str, Any], where: dict[str, Key]
    ) -> T | None:
        """The chip or the model with the settings that concern it."""
        name, prefix = str(settings.get(what, getattr(self._spec, what))), f"{what}."
        given = {key: json.dumps(settings[key], ensure_ascii=False) for key in settings if key.startswith(prefix)}
        path = self._once((folder, name), where.get(what, (what,)), lambda: find_file(name, folder, what))
        if path is None:
            return None

        def load_it() -> T:
            placed = {k.removeprefix(prefix): Setting(text, self._place(where[k])) for k, text in given.items()}
            return load(path, placed)

        return self._once((what, name, *given.items()), None, load_it)

    def _recipe(self, network: Network | None, settings: dict[str, Any], where: dict[str, Key]) -> Recipe | None:
        """The recipe of the point. What is set for the whole sweep is checked also where there is no network."""
        spec = self._spec
        given = {name: settings.get(name, getattr(spec, name, None)) for name in ("data", "epochs", "batch_size")}
        sound = [
            self._once((name, repr(value)), where.get(name, (name,)), partial(_overridden, Recipe(), {name: value}))
            for name, value in given.items()
        ]
        if None in sound:
            return None
        key = ("recipe", id(network), *map(repr, given.values()))
        recipe = self._once(key, (), partial(_overridden, network.recipe, given)) if network else None
        name = given["data"] or (recipe.data if recipe and spec.train else None)
        if name is None:  # what a model file recommends is not asked for where nothing is trained
            return recipe

        def known() -> bool:
            check_name(name, self._data_dir)
            return True

        return recipe if self._once(("data", name), where.get("data", ("data",)), known) else None

    def _seeds(self, settings: dict[str, Any], where: dict[str, Key]) -> tuple[int, ...] | None:
        if "seed" not in settings:
            return self._spec.seed_list
        seed = settings["seed"]

        def check() -> tuple[int, ...]:
            check_integer("seed", seed, 0, 2**63)
            return (seed,)

        return self._once(("seed", repr(seed)), where["seed"], check)

    def _jobs(
        self, network: Network, recipe: Recipe, rule: str, chip: _ChipFacts, seeds: tuple[int, ...],
        where: dict[str, Key],
    ) -> tuple[Job, ...] | None:  # fmt: skip
        from fahw.learn.training.checks import check_data  # loads torch, which a sweep of costs does without
        from fahw.study.training import make_jobs

        name, size = recipe.data, recipe.image_size
        at = where.get("data", ("data",) if self._spec.data else where.get("model", ("model",)))
        data: Dataset | None = self._once(("set", name, size), at, lambda: load_dataset(name, self._data_dir, size))
        if data is None:
            return None

        def fits() -> bool:
            check_trainable(network)
            check_data(network, recipe, data)
            return True

        if not self._once(("fit", id(recipe)), where.get("model", ("model",)), fits):
            return None
        return self._once(
            ("jobs", id(recipe), rule, chip.formats, seeds), (),
            lambda: tuple(
                make_jobs(network, recipe, [rule], chip.packed.unpack(), seeds, data, self._data_dir, self._device)
            ),
        )  # fmt: skip

    def _once(self, key: Any, where: Key | None, make: Callable[[], T]) -> T | None:
        """What `make` makes, made once for all points of this `key`; its problems, placed at `where` if given."""
        if key not in self._made:
            self._made[key] = None
            try:
                self._made[key] = make()
            except ConfigError as error:
                self.problems += error.problems if where is None else self._at(where, error.problems)
        made: T | None = self._made[key]
        return made

    def _at(self, where: Key, problems: tuple[Problem, ...]) -> Iterator[Problem]:
        for problem in problems:
            yield replace(problem, place=self._place(where), key=dotted(where) or problem.place)


def _overridden(recipe: Recipe, given: dict[str, Any]) -> Recipe:
    return with_overrides(recipe, **given)


def _chip_facts(path: Path, settings: dict[str, Setting]) -> _ChipFacts:
    return _facts_of(load_chip(path, settings))


def _facts_of(chip: Chip) -> _ChipFacts:
    period = chip.transport_period(reads_weight=True)
    late = f"{period}/{chip.update_delay}/{chip.update_options.momentum}"
    return _ChipFacts(pack(chip), f"{chip.precision.model_dump_json()}{chip.rounding.model_dump_json()}{late}")


def _network_facts(path: Path, settings: dict[str, Setting]) -> _NetworkFacts:
    network = load_model(path, settings)
    return _NetworkFacts(network, network_key(network))
