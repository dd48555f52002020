"""docs/validation.md says what its sections compute, and what they compute is within its bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.technology.random_bits import lfsr_pj_per_bit
from tests.validation import engine, feedback_sources, layers, page, schemes
from tests.validation.page import PAGE, SECTIONS, MissingReferenceError, is_slow

QUICK = [name for name in SECTIONS if not is_slow(name)]
SLOW = [name for name in SECTIONS if is_slow(name)]


def check_section(name):
    """The committed section is the one that is computed now."""
    try:
        expected = page.section(name)
    except MissingReferenceError as missing:
        pytest.skip(str(missing))
    assert page.sections_of(PAGE.read_text(encoding="utf-8"))[name] == expected


def test_the_page_has_the_head_and_every_section_in_order():
    """Nothing is missing, nothing is left from a section that is no longer written."""
    found = page.sections_of(PAGE.read_text(encoding="utf-8"))
    assert tuple(found) == ("head", *SECTIONS)
    assert found["head"] == page.HEAD.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", QUICK)
def test_sections_are_what_is_computed(name):
    """Every figure of the page comes from fahw as it is."""
    check_section(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_slow_sections_are_what_is_computed(name):
    """The same for sections that take long."""
    check_section(name)


def test_a_section_without_its_reference_is_kept(monkeypatch):
    """Writing the page beside no reference folder changes no section that needs it."""
    old = PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(page, "REFERENCE", page.ROOT / "nowhere")
    monkeypatch.setattr(page, "SECTIONS", ("cycles",))
    text, kept = page.render(old)
    assert [name for name, _ in kept] == ["cycles"]
    assert page.sections_of(text)["cycles"] == page.sections_of(old)["cycles"]


# what decides whether fixed feedback saves energy


def test_the_table_of_schemes_is_the_one_worked_out_by_hand():
    """On a chip with the assumptions of the table by hand every cell is within two points of it."""
    assert list(schemes.analytic()) == [scheme.name for scheme in schemes.SCHEMES]
    assert schemes.largest_gap() <= 2


@pytest.mark.parametrize("batch", schemes.BATCHES)
def test_the_baseline_of_the_schemes_by_hand(batch):
    """W read twice, three MACs a sample, W read and written, and a copy made: read, wire, write."""
    per_sample = 3 * (0.3 + schemes.REGISTER)
    per_step = 2 * schemes.READ + (schemes.READ + schemes.WRITE) + (schemes.READ + schemes.WIRE + schemes.WRITE)
    rows = schemes.cost(schemes.SCHEMES[0], schemes.few_assumptions, batch).ledger
    assert schemes.per_weight(rows, batch) == pytest.approx(per_sample + per_step / batch, rel=1e-9)


@pytest.mark.parametrize("chip_for", [schemes.few_assumptions, schemes.all_traffic])
def test_the_parts_of_the_baseline_add_up(chip_for):
    """The parts in the table are the whole dynamic energy of the layer, each once."""
    for batch in schemes.BATCHES:
        rows = schemes.cost(schemes.SCHEMES[0], chip_for, batch).ledger
        parts = schemes.breakdown(chip_for, batch)
        assert sum(parts.values()) == pytest.approx(schemes.per_weight(rows, batch), rel=1e-12)


# backward unlocking on equal layers


@pytest.mark.parametrize(("depth", "micros"), [(n, m) for n in layers.DEPTHS for m in (1, 4) if n < 64 or m == 1])
@pytest.mark.parametrize("rule", layers.RULES)
def test_equal_layers_take_their_critical_path(rule, depth, micros):
    """Latency and interval are those of the critical path worked out by hand, to the cycle."""
    cost = layers.cost(rule, depth, micros)
    assert cost.cycles == layers.by_hand(rule, depth, micros)
    assert cost.interval_cycles == layers.by_hand(rule, depth, micros) - layers.INPUT


def test_backward_unlocking_gains_less_with_more_micro_batches():
    """The ratio grows with the number of layers towards (forward + error) / forward, and falls towards 1 with M."""
    limit = (layers.FORWARD + layers.ERROR) / layers.FORWARD

    def ratio(depth, micros):
        return layers.cost("bp", depth, micros).interval_cycles / layers.cost("dfa", depth, micros).interval_cycles

    deeper = [ratio(depth, 1) for depth in layers.DEPTHS]
    assert deeper[:2] == [1, 1]
    assert deeper == sorted(deeper)
    assert 0.95 * limit < deeper[-1] < limit
    more = [ratio(4, micros) for micros in layers.MICROS]
    assert more == sorted(more, reverse=True)
    assert 1 < more[-1] < 1.05


@pytest.mark.parametrize("depth", layers.DEPTHS)
def test_dfa_saves_no_dynamic_energy_where_it_reads_the_same_words(depth):
    """The negative control: the rules differ by the output error that is written at every core, and by nothing else."""
    bp, dfa = (layers.dynamic_pj(rule, depth) for rule in layers.RULES)
    assert dfa - bp == pytest.approx(layers.written_more_pj(depth), abs=1e-3)
    reads = [
        sum(row.count for row in layers.cost(rule, depth, 1).ledger if row.action == "read") for rule in layers.RULES
    ]
    assert reads[0] == reads[1]


# where a fixed B comes from


@pytest.mark.parametrize("home", feedback_sources.HOMES)
def test_generating_breaks_even_where_the_arithmetic_says(home):
    """At the energy per random bit worked out by hand a generator costs what the memory costs, and nowhere else."""
    expected = feedback_sources.by_hand(home)
    static = home == feedback_sources.HOMES[1]
    there, below, above = (feedback_sources.energy("generator", expected * factor) for factor in (1, 0.9, 1.1))
    stored = feedback_sources.energy(home, static=static)
    assert there == pytest.approx(stored, rel=1e-9)
    assert below < stored < above
    assert feedback_sources.crossing(home) == pytest.approx(expected, rel=1e-9)


def test_generators_lie_on_either_side_of_the_sram():
    """What the page says of them: leaping beats the SRAM's reads, stepping only these with its leakage; DRAM is far
    off."""
    sram, leaking, dram = map(feedback_sources.by_hand, feedback_sources.HOMES)
    leaping, stepping = (lfsr_pj_per_bit(32, bits, 45).value for bits in (32, 1))
    assert leaping < sram < stepping < min(leaking, dram / 10)


# the engine


def check_step(random):
    """Equal to the closed forms without contention, in bursts and fold by fold, and never below them with it."""
    found = engine.gaps_of(*engine.random_step(random))
    assert (found.alone, found.exact, found.path) == (0, 0, 0)
    assert found.over >= 0


@given(st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_random_networks_on_random_chips_take_what_the_closed_forms_say(random):
    """Products of any size in any dataflow, ports of any speed, with latencies and shared ports."""
    check_step(random)


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
@settings(max_examples=800)
def test_thousands_of_products_on_random_chips(random):
    """The same for hundreds of steps, thousands of products."""
    check_step(random)
