"""A profile as one HTML page with a flame chart that needs no network."""

from collections.abc import Sequence
from dataclasses import replace

from compress.profile.chart import flame_chart
from compress.profile.records import Profile
from compress.profile.tables import heading, limits_line, tables
from compress.report.template import as_json, render
from compress.utils.text_table import TextTable


def html(profile: Profile) -> str:
    """Return the page; names in it are escaped by the template."""
    machine = profile.machine
    return render(
        "profile.html.j2",
        ("draw.js", "profile.js", "sort.js"),
        model=profile.model,
        heading=heading(profile),
        advice=profile.advice,
        limits=profile.limits and limits_line(profile.limits),
        tables=_noted_once(tables(profile)),
        notes=profile.notes,
        machine=[
            ("CPU", machine.cpu),
            ("instructions", ", ".join(machine.cpu_flags)),
            ("cores", f"{machine.cores}, {profile.threads} used"),
            ("system", f"{machine.system}, Python {machine.python}"),
            ("versions", ", ".join(f"{k} {v}" for k, v in machine.versions.items())),
        ],
        chart=as_json(flame_chart(profile)),
    )


def _noted_once(shown: Sequence[TextTable]) -> list[TextTable]:
    """Keep a note that tables one after another share at the first."""
    meanings = [table.meaning for table in shown]
    return [
        replace(table, meaning="" if table.meaning in meanings[:number] else table.meaning)
        for number, table in enumerate(shown)
    ]
