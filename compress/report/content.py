"""What a report says, in plain sentences: Markdown and HTML print the same content."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compress.analysis.choose import Choice
from compress.analysis.controls import beside_name, legend
from compress.analysis.explain import listed, name, teacher_beaten
from compress.analysis.summary import Summary
from compress.report.cascades import cascade_tables
from compress.report.choice_table import choice_table
from compress.report.failures import failure_table
from compress.report.layers import layer_table
from compress.report.notes import notes, whose
from compress.report.saliency import SaliencyPart, saliency_part
from compress.report.search import SearchPart, search_part
from compress.report.steps import StepDetail, step_details
from compress.report.tables import Column, columns, more_columns
from compress.results.schema import (
    Failure,
    Machine,
    Result,
    SingleImageClasses,
    Slice,
    Training,
)
from compress.results.search import Search
from compress.runtimes import discover, package_of
from compress.utils import units
from compress.utils.text_table import TextTable

# What decides which kernels a runtime can use, on x86 and on ARM.
FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_vpopcntdq"),
    *("amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)
X86 = ("avx2", "avx512f", "avx512_vnni")

DEFINITIONS = (
    (
        "speedup, same runtime",
        "the teacher's time divided by this candidate's, both in the same runtime with the same "
        "threads: what compression alone gave.",
    ),
    (
        "speedup, as served",
        "the same against the teacher in torch eager: what somebody who serves the teacher from "
        "PyTorch today gains in all, the runtime's part included.",
    ),
    (
        "both",
        "are measured in fresh processes (the machine's table says how many): in each, teacher and "
        "candidate take turns, so that a busy machine slows both, and the median of their paired "
        "ratios counts. The number is the median over the processes, its interval Student's t over "
        "the processes' logarithms, since small models differ more between processes than "
        "between rounds.",
    ),
    (
        "drop",
        "right answers of the teacher minus those of the candidate in percentage points, paired on "
        "the same images; positive is a loss.",
    ),
    (
        "front",
        "no other deployed row is at least as fast and as accurate, and better at one. Torch rows "
        "are references and not in it.",
    ),
    (
        "probability of the front",
        "how often a row is on the front when the processes and the images are drawn again, the "
        "same ones for all rows.",
    ),
)


@dataclass(frozen=True)
class Table:
    """Headings and, a row each, whether it is in the front and the cells."""

    columns: list[Column]
    rows: list[tuple[bool, list[str]]]


@dataclass(frozen=True)
class Detail:
    """One candidate: its role, how it came to be and what to know about it."""

    name: str
    role: str
    lineage: list[str]
    facts: list[str]
    steps: list[StepDetail]
    layers: list[TextTable]  # one a runtime


@dataclass(frozen=True)
class Content:
    """The whole report as text; nothing in it is escaped."""

    title: str
    first: str | None  # what matters more than all the rest
    asked: str
    choice: Choice | None
    choice_table: TextTable | None
    table: Table
    failed: TextTable | None
    definitions: list[tuple[str, str]]  # a term and its meaning
    more: Table
    saliency: SaliencyPart | None
    search: SearchPart | None
    pipelines: list[TextTable]
    details: list[Detail]
    machine: list[tuple[str, str]]
    commands: list[tuple[str, list[str]]]  # a command and the rows it reproduces
    notes: list[str]
    damaged: list[str]


def content(
    summary: Summary,
    title: str,
    damaged: Iterable[str] = (),
    failed: Sequence[Failure] = (),
    search: Search | None = None,
) -> Content:
    """Arrange comparable rows, fastest first, and the search that they were found by."""
    rows, budget = summary.fastest_first, summary.budget
    commands = defaultdict(list)
    for row in rows:
        commands[row.command].append(name(row))
    return Content(
        title=title,
        first=teacher_beaten(rows),
        asked=f"{budget}." if budget else "No budget was given: the front shows what can be had.",
        choice=summary.choice,
        choice_table=choice_table(summary.choice) if summary.choice else None,
        table=_table(summary, columns(rows)),
        failed=failure_table(failed) if failed else None,
        definitions=[*DEFINITIONS, *legend(rows)],
        more=_table(summary, more_columns(summary)),
        saliency=saliency_part(rows),
        search=search_part(search) if search else None,
        pipelines=cascade_tables(rows),
        details=_details(rows),
        machine=_machine(rows),
        commands=list(commands.items()),
        notes=[f"{whose(group, rows)}: {note}" for group, note in notes(summary)],
        damaged=list(damaged),
    )


def _table(summary: Summary, shown: list[Column]) -> Table:
    return Table(
        shown,
        [
            (row in summary.front, [column.cell(row) for column in shown])
            for row in summary.fastest_first
        ],
    )


def _details(rows: Sequence[Result]) -> list[Detail]:
    """Return the details, one a candidate; its runtimes share lineage, steps and training."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for row in rows:
        groups[row.candidate].append(row)
    return [
        Detail(
            name=candidate,
            role="; ".join(dict.fromkeys(word for row in group for word in _words(row))),
            lineage=next((row.lineage for row in group if row.lineage), []),
            facts=[
                *_training(group),
                *_single(group),
                *_slices(group),
                *_batches(group),
                *_files(group),
            ],
            steps=step_details(next((row.steps for row in group if row.steps), [])),
            layers=[layer_table(row) for row in group if row.layers],
        )
        for candidate, group in groups.items()
    ]


def _words(row: Result) -> list[str]:
    control = [f"control of {row.control_of}"] if row.control_of else []
    return [*beside_name(row), *control]


def _training(group: Sequence[Result]) -> list[str]:
    training = next((row.training for row in group if row.training), None)
    if training is None:
        return []
    is_elsewhere = training.machine not in (None, group[0].machine.cpu)
    elsewhere = f", on {training.machine}" if is_elsewhere else ""
    said = [
        f"{training.description}: {units.whole(training.labelled_images)} labelled and "
        f"{units.whole(training.unlabelled_images)} unlabelled images, "
        f"{_epochs(training)}{units.duration(training.seconds)}"
        f"{f', in {training.precision}' if training.precision else ''}{elsewhere}."
    ]
    if training.pseudo_labels:
        said.append(f"{training.pseudo_labels.described}.")
    if training.unlabelled_images:
        said.append(
            "Distilled on unlabelled images; if these are the images it will be judged on, "
            "that is transductive."
        )
    return said


def _epochs(training: Training) -> str:
    return f"{len(training.epochs)} epochs, " if training.epochs else ""


def _single(group: Sequence[Result]) -> list[str]:
    return [
        f"{row.artifact.runtime}: {_single_sentence(row.accuracy.single_image_classes)}"
        for row in group
        if row.accuracy.single_image_classes
    ]


def _single_sentence(single: SingleImageClasses) -> str:
    trained = (
        f"{single.in_training} of these were trained on, so this is memory and no test"
        if single.in_training
        else "none was trained on"
    )
    return (
        f"top-1 {units.percent(single.top1)} % on the {single.images} images of classes with "
        f"a single image; {trained}."
    )


def _slices(group: Sequence[Result]) -> list[str]:
    """Tell top-1 by how many images a class had to learn from, a sentence a runtime."""
    return [
        f"{row.artifact.runtime}: top-1 by the training images of the class: "
        f"{'; '.join(map(_slice, row.accuracy.slices))}."
        for row in group
        if row.accuracy.slices
    ]


def _slice(part: Slice) -> str:
    numbers = f"{part.fewest} or more" if part.most is None else f"{part.fewest} to {part.most}"
    each = f"{part.fewest}" if part.fewest == part.most else numbers
    return (
        f"{part.name} ({each}) {units.percent(part.top1.value)} % ({units.percent(part.top1.low)} "
        f"to {units.percent(part.top1.high)}) of {units.whole(part.images)} images of "
        f"{units.whole(part.classes)} classes"
    )


def _batches(group: Sequence[Result]) -> list[str]:
    """Tell throughput by batch size, where more than the tables' two were timed."""
    return [
        f"{row.artifact.runtime}: images per s "
        + listed([f"{units.significant(x.images_per_s)} at batch {x.batch}" for x in row.latency])
        + "."
        for row in group
        if len(row.latency) > 2
    ]


def _files(group: Sequence[Result]) -> list[str]:
    """Return one sentence a file: runtimes may share it."""
    runtimes: dict[str, list[str]] = defaultdict(list)
    for row in group:
        runtimes[_file(row)].append(row.artifact.runtime)
    return [f"{', '.join(loaded_by)}: {file}" for file, loaded_by in runtimes.items()]


def _file(row: Result) -> str:
    file = row.artifact
    uncounted = file.uncounted_operations
    missing = f"; not counted in its MACs: {', '.join(uncounted)}" if uncounted else ""
    return (
        f"{file.path}, {units.megabytes(file.size_bytes)} MB, sha256 {file.sha256[:12]}{missing}."
    )


def _idle(runtime: str) -> str:
    """What idle threads of a runtime do."""
    if runtime == "torch":
        return "spin for a while, as OpenMP has them"
    known = discover().get(runtime)
    return "not known" if known is None else known.idle


def _machine(rows: Sequence[Result]) -> list[tuple[str, str]]:
    facts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        batches = sorted({x.batch for x in row.latency})
        threads = sorted({x.threads for x in row.latency})
        processes = sorted({len(x.samples_s) for x in row.latency})
        cpus = sorted({cpu for x in row.latency for cpu in x.cpus})
        runtime = row.artifact.runtime
        described = [
            *_describe(row.machine),
            ("threads", ", ".join(map(str, threads))),
            ("idle threads", f"{package_of(runtime)}: {_idle(runtime)}"),
            ("CPUs used", ", ".join(map(str, cpus)) or "not known"),
            ("batches", ", ".join(map(str, batches))),
            ("processes", ", ".join(map(str, processes))),
            ("validation images", units.whole(row.accuracy.images)),
            ("recipe and run", f"{row.recipe} {row.run}"),
        ]
        for key, value in described:
            if value not in facts[key]:
                facts[key].append(value)
    times = sorted(row.measured_at for row in rows)
    facts["measured"] = [times[0]] if times[0] == times[-1] else [f"{times[0]} to {times[-1]}"]
    return [(key, "; ".join(values)) for key, values in facts.items()]


def _describe(machine: Machine) -> list[tuple[str, str]]:
    present = [flag for flag in FLAGS if flag in machine.cpu_flags]
    absent = [flag for flag in X86 if flag not in machine.cpu_flags] if "avx2" in present else []
    flags = ", ".join(present) or "none of interest"
    return [
        ("CPU", f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB"),
        ("CPU flags of interest", flags + (f" (without {', '.join(absent)})" if absent else "")),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in sorted(machine.versions.items()))),
    ]
