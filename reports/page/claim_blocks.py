"""Claims on the page: verdict, expandable evidence, and results of other studies."""

from __future__ import annotations

from reports.page import content as page
from reports.results import Results


def claim_section(results: Results) -> page.Section:
    """Return the claims of the paper and its critics, each with our verdict and what other studies count."""
    claims = [
        page.Verdict(v.claim, v.source, v.verdict, v.evidence, v.experiment, v.rule, list(results.others.get(v.id, ())))
        for v in results.verdicts
    ]
    text = [
        "Claims of the paper and of its critics. Our verdict is by the records at the scale run and by nothing else; "
        "beside it what other studies' published figures say (docs/evidence.md)."
    ]
    return page.Section("Claims", "claims", text, [page.VerdictBlock(claims)])
