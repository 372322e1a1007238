"""One site of a federation: trains, says what it sees in public pictures, learns from the others.

All state of the site lies in its study's folder, each piece written when it is known: the same
command goes on in the round, and in the epoch, in which it was stopped. What leaves the site is
laid into the meeting's folder by `federation.Meeting`, and nothing else is.
"""

import dataclasses
import re
import time
import uuid
from pathlib import Path

from autokd.candidate import describe_views
from autokd.config import DEFAULTS, Config, check_options, check_student
from autokd.data import load_data, load_public
from autokd.errors import BuildError, ConfigError, SpaceError, StudyError
from autokd.exporters import Bundle, check_folder
from autokd.federation import Charter, Meeting
from autokd.study.announcements import tell_choice
from autokd.study.folder import StudyFolder
from autokd.study.handover import describe_site, hand_over, log_site, register_site
from autokd.study.interrupts import ending_gently
from autokd.study.joint_space import build_joint_space
from autokd.study.progress import SearchProgress
from autokd.study.records import write_file
from autokd.study.refits import Refit
from autokd.study.rounds import Round
from autokd.study.sites import Site, choose_sample

__all__ = ["Federated", "federate"]

_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Federated:
    """What came of one site's part in a federation.

    Attributes:
        study: Its name at this site.
        site: Its name in the meeting.
        rounds: From the training alone to the last one.
        student: As it came out of the last round.
        alone: The same student trained as many steps without the others; none if that diverged.
        bundle: The exported files of the student and what was found when they were checked.
    """

    study: str
    site: str
    rounds: tuple[Round, ...]
    student: Refit
    alone: Refit | None
    bundle: Bundle

    @property
    def gain(self) -> float | None:
        """By the other sites: test accuracy less that of the student trained alone, if it was."""
        return None if self.alone is None else self.student.test_accuracy - self.alone.test_accuracy

    @property
    def sent_bytes(self) -> int:
        """All that has left the site, but for its name and the charter."""
        return sum(one.sent_bytes for one in self.rounds)


def federate(
    config: Config,
    *,
    out: Path = Path("student"),
    is_registered: bool | None = None,
    progress: SearchProgress | None = None,
) -> Federated:
    """Takes part in a federation as one site; the same call goes on where it was stopped.

    Args:
        config: Its `site`, `meeting`, `public` and `student`, and how it is trained.
        out: The folder to write.
        is_registered: Whether the student, its weights among the rest, is registered in MLflow
            under the study's name; if none, only where MLflow's store is of this machine.
        progress: Where to show it; nothing is shown if none.

    Returns:
        The student, the same one trained alone, and the student's files.
    """
    start = time.monotonic()
    config = _settle(config)
    check_folder(out)
    progress = progress or SearchProgress(is_silent=True)
    folder = StudyFolder(config.study_dir)
    with folder.locked():
        site = _open_site(config, folder, progress=progress)
        try:
            with ending_gently(site.halt):
                student, alone = site.run()
        finally:
            progress.end()
            folder.add_time(wall_s=time.monotonic() - start, training_s=site.training_s)
        rounds = tuple(site.rounds)
        log_site(config, rounds=rounds, student=student, alone=alone, progress=progress)
        facts = describe_site(
            config,
            sample=site.architecture,
            recipe=site.recipe,
            test=site.test,
            rounds=rounds,
            student=student,
            alone=alone,
        )
        bundle = hand_over(
            site.load(student.file),
            out,
            config=config,
            test=site.test,
            facts=facts,
            progress=progress,
        )
        register_site(
            config,
            bundle,
            public=site.data.unlabelled_images,
            is_registered=is_registered,
            progress=progress,
        )
    return Federated(
        study=config.study_name,
        site=site.meeting.site,
        rounds=rounds,
        student=student,
        alone=alone,
        bundle=bundle,
    )


def _settle(config: Config) -> Config:
    """The configuration, once it says all that a site must.

    Args:
        config: What the user wants.

    Returns:
        It, with as many views as are published.

    Raises:
        ConfigError: Something is missing, or would not be heeded.
    """
    needs = {
        "site": "pass a name that no other site has",
        "meeting": "name a folder that all sites can read and write",
        "public": "name pictures without labels that all sites hold",
    }
    for name, remedy in needs.items():
        if getattr(config, name) is None:
            raise ConfigError(f"`--{name}` must be given, got nothing; {remedy}")
    check_student(config)
    is_known = StudyFolder(config.study_dir).is_known
    check_options(config, command="federate", is_known=is_known)
    if config.sites and config.n_sites not in (None, len(config.sites)):
        raise ConfigError(
            f"`--n-sites` must be the number of --sites, {len(config.sites)}, got "
            f"{config.n_sites}; leave it out"
        )
    defaults = {
        name: value
        for name, value in DEFAULTS["federate"].items()
        if name not in config.model_fields_set
    }
    return config.model_copy(update=defaults)


def _open_site(config: Config, folder: StudyFolder, *, progress: SearchProgress) -> Site:
    """Pictures and student, checked in the order of what they cost, then a place in the meeting.

    Args:
        config: What the user wants.
        folder: Of the study.
        progress: Shows lines.

    Returns:
        The site.

    Raises:
        SpaceError: The student cannot be built.
    """
    data = load_data(config)
    public = load_public(config, shape=data.card.shape)
    data = dataclasses.replace(data, unlabelled_images=public.images)
    space = build_joint_space(config, data.card, has_assistant=False)
    try:
        sample, recipe = choose_sample(space, config, data=data)
    except BuildError as error:
        raise SpaceError(f"`--student {config.student}` must be buildable, got {error}") from error
    folder.check_settings(config, dimensions=space.dimensions)
    digests = {"data": data.card.digest, "public pictures": public.digest}
    folder.check_digests(digests)
    policy, n_views = describe_views(recipe, n_pictures=len(public.images), n_views=config.views)
    n_public, channels, height, width = public.images.shape
    meeting = Meeting.join(
        Path(config.meeting or ""),
        site=config.site or "",
        token=_find_token(folder),
        home=folder.path / "rounds",
        wanted=Charter(
            classes=data.card.classes,
            public_shape=(n_public, channels, height, width),
            public_digest=public.digest,
            policy=policy,
            views=n_views,
            rounds=config.rounds,
            vote=config.vote,
            n_sites=len(config.sites) or config.n_sites or 0,
            sites=config.sites,
        ),
    )
    folder.keep_settings(config, dimensions=space.dimensions, digests=digests)
    tell_choice(config, space=space, sample=sample, progress=progress)
    return Site(config, folder, data=data, space=space, meeting=meeting, progress=progress)


def _find_token(folder: StudyFolder) -> str:
    """What tells this site from another of its name; drawn once, before it is first shown.

    Args:
        folder: Of the study.

    Returns:
        A random number in hexadecimal.

    Raises:
        StudyError: It is not whole, so that no meeting would know the site.
    """
    file = folder.path / "token"
    if not file.exists():
        write_file(file, uuid.uuid4().hex)
    token = file.read_text(encoding="ascii", errors="replace").strip()
    if not _TOKEN.fullmatch(token):
        raise StudyError(
            f"study `{folder.path.name}` must have its 32 characters in {file}, got {token!r}; put "
            "a copy back, remove it if the site has come to no meeting yet, or pass another --study"
        )
    return token
