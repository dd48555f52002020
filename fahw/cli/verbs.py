"""The verbs of the command line: each is one call into the library. Heavy imports happen inside the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fahw.cli import options as option
from fahw.cli.terminal import say
from fahw.errors import ConfigError, Problem
from fahw.rules.catalogue import COMPARED

if TYPE_CHECKING:
    from fahw.chip.cost import Cost

app = typer.Typer(
    name="fahw",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which learning rule trains a network on a chip for the least energy, and does it learn?",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets.")
app.add_typer(data_app, name="data")


@app.callback()
def common(version: option.Version = False) -> None:
    """What holds for every verb."""


@app.command()
def simulate(
    chip: option.Chip,
    model: option.Model,
    rule: option.Rule = "dfa",
    transport: option.Transport = None,
    batch_size: option.BatchSize = None,
    set_: option.Set = None,
    trace: option.TraceFile = None,
    trace_steps: Annotated[int, typer.Option("--trace-steps", help="Consecutive steps in the trace.")] = 1,
    trace_window: option.TraceWindow = None,
    plots: option.Plots = None,
    save_mapping: option.SaveMapping = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Cost of one training step: cycles, energy, area. Nothing is trained.

    Without --transport, rules that move weights are shown under every form that the chip allows.
    """
    from fahw.chip.trace import write_trace
    from fahw.chip.transport_forms import simulate_forms as run
    from fahw.cli.cost_text import cost_json, cost_text, trace_text

    window = option.cycle_window(trace_window)
    if trace is None and (window or trace_steps != 1):
        raise ConfigError(Problem("--trace", "name the file that the steps or the window are for"))
    value, network = _chip_and_model(chip, model, set_)
    cost, forms = run(value, network, rule, batch_size or network.recipe.batch_size, transport)
    if transport not in (None, cost.transport):
        say(f"note: {rule} moves no weights: --transport {transport} changes nothing", err=True)
    if trace is not None:
        say(trace_text(write_trace(cost, trace, steps=trace_steps, window=window)), err=True)
    _write_files(cost, plots, save_mapping)
    say(cost_json(cost, forms) if json else cost_text(cost, forms), end="")


def _write_files(cost: Cost, plots: Path | None, save_mapping: Path | None) -> None:
    """Write the plots of a cost, and its mappings, where they are asked for."""
    if plots is not None:
        from fahw.report.cost_files import write_plots

        written = write_plots(cost, plots)
        say(f"plots: {', '.join(path.name for path in written)} in {plots}", err=True)
    if save_mapping is not None:
        from fahw.report.mappings import pinned_text

        option.write_out(save_mapping, pinned_text(cost), "--save-mapping")
        say(f"mapping: {save_mapping}", err=True)


@app.command()
def train(
    model: option.Model,
    rule: option.Rule = "bp",
    chip: option.TrainedOn = None,
    data: option.Data = None,
    epochs: option.Epochs = None,
    seed: option.Seed = 0,
    set_: option.Set = None,
    data_dir: option.DataDir = None,
    device: option.Device = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Store the result; go on from there where a training was stopped."),
    ] = None,
) -> None:
    """Train a network under a rule. Without a chip: the model file's formats, else fp32."""
    from fahw.cli.texts import epoch_text, split_text, train_text
    from fahw.study.storage.result_files import make_folder
    from fahw.study.training import UNFINISHED, make_job, run_job, store_result

    value, network = _chip_and_model(chip, model, set_, "MODEL --chip CHIP")
    job = make_job(network, rule, value, data=data, epochs=epochs, seed=seed, data_dir=data_dir, device=device)
    unfinished = make_folder(out) / UNFINISHED if out is not None else None
    if job.setup.norm_samples is not None:
        say(split_text(job.setup.norm_samples, job.setup.recipe.batch_size))
    result = run_job(job, lambda row: say(epoch_text(row)), unfinished)
    if out is not None:
        store_result(out, result)
    say(train_text(result))


@app.command()
def compare(
    out: option.Out,
    chip: Annotated[str, typer.Argument(help="A chip file, or the name of a shipped chip.")] = "edge_dual",
    model: Annotated[str, typer.Argument(help="A model file, or the name of a shipped model.")] = "mlp_digits",
    rules: Annotated[str, typer.Option("--rules", help="Comma-separated; bp is always added.")] = ",".join(COMPARED),
    data: option.Data = None,
    epochs: option.Epochs = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trainings per rule.")] = 3,
    batch_size: option.BatchSize = None,
    target: Annotated[float, typer.Option("--target", help="Points below bp's accuracy that count as reached.")] = 1.0,
    set_: option.Set = None,
    data_dir: option.DataDir = None,
    device: option.Device = "cpu",
    jobs: option.Jobs = None,
) -> None:
    """The main job: train and price every rule, and write a report that compares them."""
    from fahw.cli.progress import bars, counter
    from fahw.cli.texts import compare_text
    from fahw.study.compare import compare as run

    value, network = _chip_and_model(chip, model, set_)
    with bars() as progress:
        comparison = run(
            value or chip, network, out=out, rules=option.names(rules), data=data, epochs=epochs, seeds=seeds,
            batch_size=batch_size, target_points=target, data_dir=data_dir, workers=jobs, device=device,
            on_progress=counter(progress, "trainings"),
        )  # fmt: skip
    say(compare_text(comparison), end="")


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help="A sweep file, or the name of a shipped one.", metavar="SWEEP")],
    out: option.Out,
    jobs: option.Jobs = None,
    executor: Annotated[str | None, typer.Option("--executor", help="processes (of this machine) or dask.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Of Dask's scheduler: tcp://HOST:PORT.")] = None,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="Results that sweeps share; default: --out.")
    ] = None,
    data_dir: option.DataDir = None,
    device: option.Device = "cpu",
) -> None:
    """Points over any keys, rules, chips and seeds; resumes where it stopped."""
    from fahw.cli.progress import bars, counter
    from fahw.cli.texts import sweep_text
    from fahw.study.storage.executors import named_executor
    from fahw.study.sweeps.sweep import sweep as run

    with named_executor(executor, address) as pool, bars() as progress:
        result = run(
            file, out=out, store=store, workers=jobs, executor=pool, data_dir=data_dir, device=device,
            on_priced=counter(progress, "points priced"), on_progress=counter(progress, "trainings"),
        )  # fmt: skip
    say(sweep_text(result), end="")
    if result.failed:
        raise typer.Exit(1)


@app.command()
def export_vectors(
    chip: option.Chip,
    model: option.Model,
    rule: option.Rule,
    out: option.Out,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps, from the first.")] = 1,
    data: option.Data = None,
    seed: option.Seed = 0,
    batch_size: option.BatchSize = None,
    set_: option.Set = None,
    data_dir: option.DataDir = None,
) -> None:
    """Golden vectors for a test bench: every memory of every step, as hex files for $readmemh."""
    from fahw.study.vectors import export_vectors as run

    value, network = _chip_and_model(chip, model, set_)
    vectors = run(value, network, rule, steps, out, seed=seed, data=data, batch_size=batch_size, data_dir=data_dir)
    say(f"{len(vectors.manifest['files'])} memory images and manifest.json in {vectors.folder}")


@app.command()
def attack(
    model: option.Model,
    rules: Annotated[str, typer.Option("--rules", help="Comma-separated.")] = "bp",
    chip: option.TrainedOn = None,
    data: option.Data = None,
    epochs: option.Epochs = None,
    seed: option.Seed = 0,
    epsilons: Annotated[
        str, typer.Option("--epsilons", help="Largest changes of a pixel in [0, 1], comma-separated.")
    ] = "0,0.02,0.05,0.1,0.2",
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to attack.")] = 1000,
    set_: option.Set = None,
    data_dir: option.DataDir = None,
    device: option.Device = "cpu",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write robustness.csv here.")] = None,
) -> None:
    """Train, then attack with adversarial images (FGSM, PGD, transfer): accuracy over epsilon."""
    from fahw.cli.texts import attack_text
    from fahw.study.attack import attack as run

    value, network = _chip_and_model(chip, model, set_, "MODEL --chip CHIP")
    attacked = run(
        network, option.names(rules), value, data=data, epochs=epochs, seed=seed,
        epsilons=option.numbers("--epsilons", epsilons), images=images, data_dir=data_dir, device=device, out=out,
        on_progress=lambda text: say(text, err=True),
    )  # fmt: skip
    say(attack_text(attacked), end="")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that compare or sweep wrote.", metavar="DIR")],
) -> None:
    """Build the report of a run folder again."""
    from fahw.report.changes import change_sentence
    from fahw.report.page import write_report

    page = write_report(folder)
    if changes := change_sentence(folder):
        say(f"warning: {changes}", err=True)
    say(f"report: {page}")


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Chip, model and sweep files.", metavar="FILE...")]) -> None:
    """Check files: every mistake with its place."""
    from fahw.cli.check import check_file

    problems: list[Problem] = []
    for file in files:
        try:
            say(check_file(file))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


@app.command(name="list")
def list_(what: Annotated[option.Listing, typer.Argument(help="What to list.")]) -> None:
    """What fahw knows and ships."""
    from fahw.cli.listing import listing

    say(listing(what.value), end="")


@app.command()
def schema(what: Annotated[option.SchemaName, typer.Argument(help="Whose schema.")]) -> None:
    """JSON schema of a kind of file, for editors."""
    from fahw.cli.listing import schema_text

    say(schema_text(what.value), end="")


@app.command(name="export-topology")
def export_topology(
    model: option.Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The CSV file to write.")],
    phase: Annotated[str, typer.Option("--phase", help="forward, error or gradient.")] = "forward",
    batch_size: option.BatchSize = None,
    form: Annotated[str, typer.Option("--format", help="gemm, or conv: the forward pass of one sample.")] = "gemm",
    set_: option.Set = None,
) -> None:
    """Write a network as a topology file of SCALE-Sim."""
    from fahw.network.topology import export

    _, network = _chip_and_model(None, model, set_, "MODEL")
    option.write_out(out, export(network, phase, batch_size, form))
    say(f"topology: {out}")


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Data set.", metavar="NAME")],
    data_dir: option.DataDir = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="Fetch from a mirror.")] = None,
) -> None:
    """Download a data set, checked by checksum; continues a broken download."""
    from fahw.cli.progress import bars, downloads
    from fahw.datasets.dataset import data_folder
    from fahw.datasets.fetch import fetch as run

    with bars() as progress:
        paths = run(name, data_dir or data_folder(), base_url=base_url, on_progress=downloads(progress))
    for path in paths:
        say(f"ready: {path}")


def _chip_and_model(chip: str | None, model: str, texts: list[str] | None, usage: str = "CHIP MODEL") -> Any:
    """The chip, None where none is named, and the network, with the settings of `--set` in them.

    Raises ConfigError with every mistake; `usage` is the order that it names where the two are swapped.
    """
    from fahw.study.command_inputs import chip_and_model

    return chip_and_model(chip, model, texts or (), usage)
