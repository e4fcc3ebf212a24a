"""Clocks that differ: by how much a channel's host is ahead of us, where that matters, and what a person reads of it."""

from __future__ import annotations

from datetime import timedelta

NO_TIME = timedelta(0)


def beyond(ahead: timedelta, overlap: timedelta) -> timedelta:
    """Return by how much a platform's clock is ahead of ours, none where the overlap of the orders' windows covers it."""
    return ahead if abs(ahead) > overlap else NO_TIME


def clock_off(channel: str, ahead: float) -> str:
    """Return the sentence on a host whose clock is `ahead` seconds ahead of ours, "" for none."""
    if not ahead:
        return ""
    # In tens of seconds: the difference errs by one, and the sentence is to stay the same from push to push.
    return (
        f"the clock of this machine is {abs(round(ahead, -1)):.0f} s {'behind' if ahead > 0 else 'ahead of'} {channel}'s; set it "
        "right (`timedatectl` says whether it is synchronised, `sudo timedatectl set-ntp true` makes it so), or have the "
        "shop's server set right if only this channel says so. Orders are listed by the shop's time meanwhile, and none is lost"
    )
