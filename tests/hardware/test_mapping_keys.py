"""Keys that only a search of mappings reads: refused where nothing is searched, and where no dataflow can use them."""

import pytest

import fahw
from fahw.config.sweep import Sweep
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.study.training import make_jobs
from tests.support.strategies import CHIP, SHIPPED_CHIPS, chip_of, marked, setups_of, swap

BEST, FIXED = "mapping: best\n", "mapping: fixed\n"
OTHER_VALUES = {"mapping_objective": "latency", "error_form": "gather", "recompute": "2"}
OTHER_ARRAY_VALUES = {"accumulators": "16", "weights_per_element": "2", "dataflows": "[ws]"}
KEYS = {f"{name}: @@{value}\narrays:" for name, value in OTHER_VALUES.items()}
ARRAY_KEYS = {f"    {name}: @@{value}\n    lanes: 2" for name, value in OTHER_ARRAY_VALUES.items()}
IDLE = [("arrays:", text) for text in sorted(KEYS)] + [("    lanes: 2", text) for text in sorted(ARRAY_KEYS)]
OF_WEIGHTS = {"arrays.array.accumulators": "16", "arrays.array.weights_per_element": "2"}


def found_in(folder, text):
    """The one problem of a chip, and where the mark in its text is."""
    text, places = marked(text)
    with pytest.raises(ConfigError) as caught:
        chip_of(folder, text)
    (problem,) = caught.value.problems
    return problem, f"{folder / 'chip.yaml'}:{places[0]}"


@pytest.mark.parametrize(("old", "new"), IDLE)
def test_a_key_that_says_something_to_no_one_is_refused(old, new, tmp_path):
    """Each of them under `mapping: fixed`, at its value's place and with advice."""
    problem, place = found_in(tmp_path, FIXED + swap(CHIP, old, new))
    assert problem.place == place
    assert "`mapping: best`" in problem.message


def test_every_key_in_vain_is_said_at_once(tmp_path):
    """One of the chip and three of an array, beside a mistake of another kind."""
    text = swap(CHIP, "    lanes: 2", "".join(f"    {name}: {value}\n" for name, value in OTHER_ARRAY_VALUES.items()))
    text = swap(text, "phases: {forward", "lanes: -1\n    phases: {forward")
    with pytest.raises(ConfigError) as caught:
        chip_of(tmp_path, f"{FIXED}error_form: scatter\n{text}")
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"error_form", "arrays.0.lanes", *(f"arrays.0.{name}" for name in OTHER_ARRAY_VALUES)}


@pytest.mark.parametrize(
    ("name", "given"), [("error_form", "best"), ("mapping_objective", "energy"), ("accumulators", "0"),
                        ("weights_per_element", "1"), ("dataflows", "[]")],
)  # fmt: skip
def test_a_default_that_is_written_out_stands_under_either_mapping(name, given, tmp_path):
    """It says what holds anyway."""
    old, new = ("    lanes: 2", f"    {name}: {given}\n    lanes: 2") if name in OTHER_ARRAY_VALUES else ("", "")
    for mapping in ("fixed", "best"):
        of_chip = "" if new else f"{name}: {given}\n"
        assert chip_of(tmp_path, f"mapping: {mapping}\n{of_chip}{swap(CHIP, old, new)}").mapping == mapping


@pytest.mark.parametrize("name", ["accumulators", "weights_per_element"])
def test_what_belongs_to_an_operand_that_stays_needs_a_dataflow_in_which_one_does(name, tmp_path):
    """`os` arrays have no use for it, unless a further dataflow has; then it is there to be read."""
    key = swap(CHIP, "    lanes: 2", f"    {name}: @@3\n    lanes: 2")
    problem, place = found_in(tmp_path, BEST + key)
    assert (problem.place, problem.key) == (place, f"arrays.0.{name}")
    assert "`ws` and `is`" in problem.message
    text = swap(key, "    lanes: 2", "    dataflows: [broadcast, is]\n    lanes: 2").replace("@@", "")
    array = chip_of(tmp_path, BEST + text).arrays[0]
    assert (getattr(array, name), array.dataflows) == (3, ("broadcast", "is"))


@pytest.mark.parametrize(
    ("listed", "said"),
    [("[ws, @@rs]", "os, ws, is, broadcast"), ("[os, ws, @@os]", "listed twice"), ("[@@wss]", "did you mean 'ws'")],
)
def test_further_dataflows_are_those_of_products_in_folds_each_once(listed, said, tmp_path):
    """Row-stationary is no order of loops of any product; a name is no more than once there."""
    problem, place = found_in(tmp_path, BEST + swap(CHIP, "    lanes: 2", f"    dataflows: {listed}\n    lanes: 2"))
    assert problem.place == place
    assert said in problem.message


def test_a_further_dataflow_skips_the_zeros_that_its_array_skips(tmp_path):
    """Lanes that move in step cannot; broadcast ones can."""
    phases = "phases: {forward: broadcast, gradient: broadcast, update: vector}\n    zero_skipping: {activation: skip}"
    text = BEST + swap(CHIP, "phases: {forward: os, gradient: os, update: vector}", phases)
    problem, place = found_in(tmp_path, swap(text, "    lanes: 2", "    dataflows: [broadcast, @@os]\n    lanes: 2"))
    assert problem.place == place
    assert "cannot skip zeros" in problem.message


def test_an_objective_is_for_the_search_of_micro_batches_too(tmp_path):
    """Each search has it alone; a wrong micro-batch beside it is the one thing that is said."""
    text = f"mapping_objective: latency\n{CHIP}"
    fixed = FIXED + text
    assert chip_of(tmp_path, f"micro_batch: best\n{fixed}").micro_batch == "best"
    assert chip_of(tmp_path, f"{BEST}micro_batch: 4\n{text}").mapping_objective == "latency"
    problem, place = found_in(tmp_path, f"{FIXED}micro_batch: 4\nmapping_objective: @@latency\n{CHIP}")
    assert problem.place == place
    assert "`micro_batch: best`" in problem.message
    problem, place = found_in(tmp_path, f"micro_batch: @@bets\n{fixed}")
    assert problem.place == place
    assert "did you mean 'best'" in problem.message


@pytest.mark.parametrize("chip", SHIPPED_CHIPS)
def test_a_chip_that_says_nothing_of_mappings_has_the_best(chip):
    """None of those that ship has to say it."""
    assert "mapping" not in load_chip(chip).model_fields_set
    assert load_chip(chip).mapping == "best"


def test_all_of_them_can_be_swept():
    """Axes of a grid under `mapping: best`, and pairs from `fixed` on."""
    grid = {"chip.error_form": ("best", "gather"), "chip.arrays.0.accumulators": (0, 64), "chip.mapping": ("best",),
            "chip.mapping_objective": ("edp",), "chip.arrays.array.weights_per_element": (1, 4)}  # fmt: skip
    made = setups_of(Sweep(name="s", chip="tpu_like", train=False, grid=grid))
    assert len({setup.cost_key for setup in made}) == 8
    pairs = {"chip.mapping": ("fixed", "best"), "chip.error_form": ("best", "gather")}
    assert len(setups_of(Sweep(name="s", train=False, zip=(pairs,)))) == 2


def test_no_training_depends_on_how_products_are_mapped():
    """A chip with every key given another value: the key of a training is the same."""
    network = fahw.load_model("mlp_digits")
    data = load_dataset("digits")

    def key(overrides):
        chip = load_chip("tpu_like", overrides)
        return make_jobs(network, network.recipe, ["bp"], chip, [0], data)[0].key

    given = {"mapping": "best"} | OTHER_VALUES | OF_WEIGHTS | {"arrays.array.dataflows": "[os, is]"}
    assert key(given) == key({"mapping": "best"}) == key({})


def test_a_tensor_with_three_homes_is_for_fixed_mappings(tmp_path):
    """A search knows tiles in tiles, and no third level."""
    keys = "holds: [weight], size_kib: 64, bank_kib: 16, width_bits: 32, read_bits_per_cycle: 64"
    rest = "write_bits_per_cycle: 64, assumed: a test}\n"
    behind = f"  - {{name: behind, level: global, {keys}, {rest}"
    before = f"  - {{name: before, level: register, {keys}, {rest}"
    text = BEST + swap(CHIP, "memories:\n  - ", f"memories:\n{behind}  - ")
    assert chip_of(tmp_path, text).outer_home("weight").name == "behind"
    with pytest.raises(ConfigError, match="weight has homes in before and behind too") as caught:
        chip_of(tmp_path, swap(text, "memories:\n  - ", f"memories:\n{before}  - "))
    assert "memories.2.holds" in {problem.key for problem in caught.value.problems}
