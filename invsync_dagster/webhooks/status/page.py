"""The page on which a person sees how all stands: one HTML without a build step; its words and numbers are made here."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from invsync_dagster.clock import age_in_words
from invsync_dagster.webhooks.status.document import Seen, Verdict

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


# What is foreign on the page (SKUs, reasons in a platform's words) is escaped; should some of it not be, nothing comes of it.
POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

# The trend's drawing, in units of its own: it is stretched to the width that there is.
WIDTH, HEIGHT = 288, 100
_SPAN = timedelta(hours=24)

_WORDS = {
    Verdict.WELL: ("✓", "All is well"),
    Verdict.ATTENTION: ("!", "Needs a look"),
    Verdict.TROUBLE: ("✗", "Trouble"),
}


def render(seen: Seen, receiver: Mapping[str, Any]) -> bytes:
    """Return the page."""
    return _PAGE.render(_said(seen, receiver)).encode()


def form(*, wrong: bool) -> bytes:
    """Return the form that asks for the token; `wrong` if the one given was none."""
    return _FORM.render(wrong=wrong).encode()


def _said(seen: Seen, receiver: Mapping[str, Any]) -> dict[str, Any]:
    document = seen.document
    sign, words = _WORDS[seen.verdict]
    said: dict[str, Any] = {
        "verdict": seen.verdict,
        "sign": sign,
        "words": words,
        "summary": _summary(seen),
        "receiver": receiver,
        "answer_p99": _seconds(receiver["answer_p99_seconds"]),
        "there": bool(document),
        "problems": (),
        "ui_url": document.get("ui_url", ""),
    }
    if not document:
        return said | {"problems": [dict(one) | {"since": "", "link": "", "word": "Error"} for one in seen.problems]}
    zone, at = ZoneInfo(document["time_zone"]), datetime.fromisoformat(document["at"])
    times = _Times(at, zone)
    # While the database can't be used, the document is newer than its figures.
    present = datetime.fromisoformat(document["written_at"]) + timedelta(seconds=seen.age_seconds or 0.0)
    worst = {one["channel"]: one["severity"] for one in reversed(seen.problems)}
    slowest = max((one["latency"]["p95"] for one in document["channels"] if one["latency"]), default=0.0)
    channels = [_channel(one, worst.get(one["channel"], ""), times, slowest, document) for one in document["channels"]]
    return said | {
        "document": document,
        "age": age_in_words((present - at).total_seconds()),
        "problems": [_problem(one, _Times(present, zone), document["ui_url"]) for one in seen.problems],
        "channels": sorted(channels, key=lambda one: ("trouble", "attention", "idle", "well").index(one["standing"])),
        "figures": _figures(document, receiver, times),
        "trend": _trend(document["trend"], document["trend"]["out_of_step"], times),
        "held": [{"channel": one["channel"], **row} for one in document["channels"] for row in one["held_levels"]],
        "held_why": [{"channel": one["channel"], **row} for one in document["channels"] for row in one["held_why"]],
        "held_number": sum(one["held"] - one["held_decided"] for one in document["channels"]),
        "imports": [one | {"held": age_in_words(one["held_seconds"])} for one in document["held_imports"]],
        "review": [
            {"channel": one["channel"], **row, "since": times.since(row["since"])}
            for one in document["channels"]
            for row in one["in_review"]
        ],
        "review_number": sum(one["review"] for one in document["channels"]),
        "at": times.clock(document["at"]),
    }


class _Times:
    """Says times as of the document's own, in the installation's zone."""

    def __init__(self, now: datetime, zone: tzinfo) -> None:
        self.now = now
        self._zone = zone

    def clock(self, moment: str) -> str:
        """`03:12`; with the day where it isn't today."""
        then, now = datetime.fromisoformat(moment).astimezone(self._zone), self.now.astimezone(self._zone)
        return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%d %b %H:%M}"

    def since(self, moment: str) -> str:
        """`03:12 (45 min)`."""
        return f"{self.clock(moment)} ({self.age(moment)})"

    def age(self, moment: str) -> str:
        return age_in_words((self.now - datetime.fromisoformat(moment)).total_seconds())

    def ago(self, moment: str | None) -> str:
        return f"{self.age(moment)} ago" if moment else "never"


def _summary(seen: Seen) -> str:
    errors = sum(problem["severity"] == "error" for problem in seen.problems)
    parts = [_number(errors, "error"), _number(len(seen.problems) - errors, "warning")]
    waiting = seen.document.get("waits_for_people", 0)
    parts.append(f"{_number(waiting, 'case')} for you" if waiting else "")
    return ", ".join(part for part in parts if part)


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}" if number else ""


def _problem(problem: Mapping[str, Any], times: _Times, ui_url: str) -> dict[str, Any]:
    return {
        **problem,
        "word": problem["severity"].capitalize(),
        "since": times.since(problem["since"]) if problem["since"] else "",
        "link": f"{ui_url}/{problem['page']}" if ui_url and problem["page"] else "",
    }


def _figures(document: Mapping[str, Any], receiver: Mapping[str, Any], times: _Times) -> list[tuple[str, str]]:
    """Return the figures of the whole: what it is, and the number with its unit."""
    channels = document["channels"]
    ages = [one["oldest_change_seconds"] for one in channels if one["oldest_change_seconds"] is not None]
    waiting = document["oldest_delivery_seconds"]
    backup = document["backup"]
    proof = {None: "", True: ", verified", False: ", its check is red"}
    return [
        (
            "Listings in step",
            f"{sum(one['in_step'] for one in channels):,} of {sum(one['active'] for one in channels):,}",
        ),
        ("Out of step", f"{document['out_of_step']:,}"),
        ("Oldest change", age_in_words(max(ages, default=None))),
        ("Deliveries waiting", f"oldest {age_in_words(waiting)}" if waiting is not None else "none"),
        ("SKUs", f"{document['skus']:,}"),
        ("Units on hand", f"{document['units']:,} ({document['reserved']:,} reserved)"),
        ("Webhooks answered, 99 % within", _seconds(receiver["answer_p99_seconds"])),
        ("Last backup", f"{times.ago(backup['at'])}{proof[backup['verified']]}" if backup else "none yet"),
    ]


def _channel(
    one: Mapping[str, Any], severity: str, times: _Times, slowest: float, document: Mapping[str, Any]
) -> dict[str, Any]:
    latency, budget = one["latency"], one["budget"]
    active = one["state"] == "active"
    standing = "trouble" if severity == "error" or one["state"] == "stopped" else ""
    waits = one["held"] > one["held_decided"] or one["review"]
    standing = standing or ("attention" if severity or waits else "well" if active else "idle")
    rate = one["success_rate_last_hour"]
    oldest = f"oldest {age_in_words(one['oldest_change_seconds'])}" if one["out_of_step"] else ""
    numbers = [("in step", one["in_step"], f"of {one['active']:,}"), ("out of step", one["out_of_step"], oldest)]
    rest = {"held": one["held"], "in review": one["review"], "paused": one["paused"] + one["stopped"]}
    numbers += [(what, number, "") for what, number in rest.items() if number]
    share = budget["points"] / budget["burst"] if budget else 0.0
    return {
        "name": one["channel"],
        "platform": one["platform"],
        "environment": one["environment"],
        "state": one["state"],
        "reason": one["reason"],
        "standing": standing,
        "sign": {"trouble": "✗", "attention": "!", "idle": "–", "well": "✓"}[standing],
        "link": f"{document['ui_url']}/assets/push_results/{one['channel']}" if document["ui_url"] else "",
        "numbers": [(what, f"{number:,}", more) for what, number, more in numbers],
        "last": ", ".join(
            f"{what.replace('_', ' ')} {times.ago(one[f'last_{what}_at'])}"
            for what in ("push", "success", "delivery", "full_run")
        ),
        "syncs": f"{one['syncs_last_hour']:,}" + ("" if rate is None else f", {rate:.1%} taken"),
        "latency": f"{_seconds(latency['p50'])}, 95 % in {_seconds(latency['p95'])}" if latency else "no change came",
        "latency_bars": [_percent(latency[key], slowest) for key in ("p50", "p95")] if latency else [],
        "budget": _budget(budget, share) if budget else "",
        "budget_bar": _percent(share, 1.0) if budget else None,
        "low": share < 0.2,
        "day_limit": one["waiting_for_day_limit"],
        "writes_a_day": one["writes_a_day"],
        "line": _points(document["trend"], document["trend"]["channels"].get(one["channel"], ()), times),
    }


def _budget(budget: Mapping[str, Any], share: float) -> str:
    if budget["blocked_seconds"]:
        return f"none for {age_in_words(budget['blocked_seconds'])}: the platform told us to wait"
    return f"{share:.0%}, {budget['points']:,.0f} points"


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else age_in_words(seconds)


def _trend(trend: Mapping[str, Any], numbers: Sequence[int], times: _Times) -> dict[str, Any]:
    """Return the drawing of the whole, its scale, and what it shows in words."""
    highest = max(numbers, default=0)
    top = _top(highest)
    when = trend["at"][numbers.index(highest)]
    words = f"now {numbers[-1]:,}" + (
        f", most {highest:,} at {times.clock(when)}" if highest else ", never more than 0"
    )
    return {"top": f"{top:,}", "lines": _points(trend, numbers, times, top), "words": words}


def _points(trend: Mapping[str, Any], numbers: Sequence[int], times: _Times, top: int = 0) -> list[dict[str, str]]:
    """Return the lines of a trend, one for each time in which somebody wrote it without a gap, and the areas below them."""
    top = top or _top(max(numbers, default=0))
    begin = times.now - _SPAN
    step = timedelta(seconds=trend["step_seconds"])
    steps = [
        (round((datetime.fromisoformat(at) - begin) / step), n) for at, n in zip(trend["at"], numbers, strict=False)
    ]
    shown = [(x, n) for x, n in steps if 0 <= x <= WIDTH]
    lines = []
    for _, part in groupby(enumerate(shown), lambda pair: pair[1][0] - pair[0]):
        points = [(x, round(HEIGHT * (1 - n / top), 1)) for _, (x, n) in part]
        if len(points) == 1:
            points.append((points[0][0] + 1, points[0][1]))
        area = [(points[0][0], HEIGHT), *points, (points[-1][0], HEIGHT)]
        lines.append({"line": _joined(points), "area": _joined(area)})
    return lines


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _top(highest: int) -> int:
    """Return the end of a scale that holds `highest`: 1, 2 or 5 times a power of ten, at least 5."""
    if highest <= 5:
        return 5
    unit: int = 10 ** int(math.log10(highest))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= highest)


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.globals.update(style=_STYLE, script=_SCRIPT, width=WIDTH, height=HEIGHT)
_PAGE, _FORM = _ENVIRONMENT.get_template("page.html"), _ENVIRONMENT.get_template("form.html")
