"""The commands that reproduce the runs behind the page's cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reports.records.archive import is_archived
from reports.records.commands import command_of
from reports.records.reader import raw_record
from reports.tables.comparison import Table


def commands(tables: Sequence[Table], further: Mapping[str, str]) -> dict[str, str]:
    """Return the command of each run that a row of the tables rests on; a run outside an archive with its folder.

    `further` are options of a task's runs that their summaries lack, by task.
    """
    by_run: dict[str, str] = {}
    for table in tables:
        for contender in table.comparison.contenders:
            inside = re.search(r"\((.*)\)", contender.label)
            arguments = [part.split(" ")[0] for part in inside[1].split(", ")] if inside else []
            for run_id, path in contender.at_choice()[["run_id", "path"]].dropna().itertuples(index=False):
                summary, _ = raw_record(path)
                words = [command_of(summary, arguments), further.get(table.comparison.task, "")]
                by_run[run_id] = " ".join(filter(None, words)) + ("" if is_archived(path) else f"  # {path}")
    return dict(sorted(by_run.items()))
