"""A profile as one HTML page with a flame chart that needs no network."""

from collections.abc import Sequence
from dataclasses import replace

from compress.profile.chart import flame_chart
from compress.profile.comparison import Comparison
from compress.profile.comparison_tables import comparison_tables, settings
from compress.profile.records import Profile
from compress.profile.tables import heading, limits_line, tables
from compress.report.template import as_json, render
from compress.results.schema import Machine
from compress.utils.text_table import TextTable


def html(profile: Profile) -> str:
    """Return the page; names in it are escaped by the template."""
    return render(
        "profile.html.j2",
        ("draw.js", "profile.js", "sort.js"),
        model=profile.model,
        heading=heading(profile),
        advice=profile.advice,
        limits=profile.limits and limits_line(profile.limits),
        tables=_noted_once(tables(profile)),
        notes=profile.notes,
        machine=_machine(profile.machine, str(profile.threads)),
        chart=as_json(flame_chart(profile)),
    )


def comparison_html(found: Comparison) -> str:
    """Return the page of a comparison, with the flame charts of both files on one scale."""
    shown_s = max(found.a.root.seconds, found.b.root.seconds)
    used = " and ".join(dict.fromkeys(str(x.threads) for x in (found.a, found.b)))
    both = zip("AB", settings(found), (found.a, found.b), strict=True)
    return render(
        "against.html.j2",
        ("draw.js", "profile.js", "sort.js"),
        a=found.a.model,
        b=found.b.model,
        verdict=found.verdict,
        explanations=found.explanations,
        charts=[
            (side, says, as_json(flame_chart(profile, shown_s))) for side, says, profile in both
        ],
        tables=comparison_tables(found),
        notes=found.notes,
        machine=_machine(found.a.machine, used),
    )


def _machine(machine: Machine, used: str) -> list[tuple[str, str]]:
    return [
        ("CPU", machine.cpu),
        ("instructions", ", ".join(machine.cpu_flags)),
        ("cores", f"{machine.cores}, {used} used"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in machine.versions.items())),
    ]


def _noted_once(shown: Sequence[TextTable]) -> list[TextTable]:
    """Keep a note that tables one after another share at the first."""
    meanings = [table.meaning for table in shown]
    return [
        replace(table, meaning="" if table.meaning in meanings[:number] else table.meaning)
        for number, table in enumerate(shown)
    ]
