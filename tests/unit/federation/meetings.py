"""Sites that join a meeting and speak in it."""

import dataclasses

from autokd.federation import Meeting, Patience
from tests.unit.federation.charters import CHARTER, answer

ONCE = Patience(wait_s=0.0)


def join(path, site, *, token=None, **changes):
    token = token or f"token of {site}"
    meeting = Meeting.join(
        path, site=site, token=token, home=path.parent / f"home of {site}",
        wanted=dataclasses.replace(CHARTER, **changes),
    )  # fmt: skip
    return dataclasses.replace(meeting, transit_s=0.05)


def publish(meeting, *, number=0, **options):
    return meeting.publish(answer(meeting.site, **options), number=number, patience=ONCE)


def gather(meeting, number=0, *, expected=(), **options):
    lines = []
    values = {"wait_s": 0.1, "is_over": lambda: False, "say": lines.append, "pause_s": 0.01}
    patience = Patience(**{**values, **options})
    return meeting.gather(number, expected=expected, patience=patience), lines


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def give(folder, site, content, *, number=0):
    """Lays a file down, as whoever may write to the folder can."""
    file = folder / f"round-{number:02d}/{site}.npz"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file
