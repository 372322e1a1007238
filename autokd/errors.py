"""Every error that autokd raises on purpose.

    AutoKDError
    ├── RequestError          the request was wrong: exit code 2
    │   ├── ConfigError       an option, a flag or the configuration file
    │   ├── DataError         the data set
    │   ├── TeacherError      the teacher
    │   ├── SpaceError        the search space, the recipe, a sample of them
    │   ├── StudyError        the study: unknown, in use, made with other settings
    │   ├── ConstraintError   no student can meet the constraints
    │   └── CharterError      a site cannot join the meeting of a federation as it is
    └── RunError              the run failed: exit code 1
        ├── BuildError        a candidate cannot be built
        ├── DivergedError     a candidate's loss is not finite any more
        ├── ExportError       a student cannot be exported, or the export is not the student
        ├── MeasureError      a latency cannot be measured
        ├── TargetError       a target fails on one network after another
        ├── WorkerError       a process that trained was killed again and again
        ├── StorageError      the database of a study is away, and was waited for in vain
        ├── MeetingError      other sites of a federation do not come, or give rubbish
        └── TrackingError     the tracking server cannot be used

A message is one line: `<name> must <rule>, got <value>; <remedy>`.
`ValueError` and `TypeError` are left for wrong arguments of a Python function.
"""

__all__ = [
    "AutoKDError",
    "BuildError",
    "CharterError",
    "ConfigError",
    "ConstraintError",
    "DataError",
    "DivergedError",
    "ExportError",
    "MeasureError",
    "MeetingError",
    "RequestError",
    "RunError",
    "SpaceError",
    "StorageError",
    "StudyError",
    "TargetError",
    "TeacherError",
    "TrackingError",
    "WorkerError",
]


class AutoKDError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 1


class RequestError(AutoKDError):
    """The request cannot be served as it stands; nothing was changed."""

    exit_code = 2


class RunError(AutoKDError):
    """The request was fine, carrying it out failed."""


class ConfigError(RequestError):
    """An option, a flag or a configuration file is wrong."""


class DataError(RequestError):
    """The data set cannot be used."""


class TeacherError(RequestError):
    """The teacher cannot be used."""


class SpaceError(RequestError):
    """The search space or the recipe is wrong, or a sample is not in it."""


class StudyError(RequestError):
    """The study does not exist, is in use, or was made with other settings."""


class ConstraintError(RequestError):
    """The constraints leave no student."""


class CharterError(RequestError):
    """A site cannot join the meeting of a federation: it differs from what was agreed on there."""


class BuildError(RunError):
    """A candidate cannot be built from its sample."""


class DivergedError(RunError):
    """A candidate's training loss is not finite any more."""


class ExportError(RunError):
    """A student cannot be exported, or the exported file does not do what the student does."""


class MeasureError(RunError):
    """The latency of a network cannot be measured."""


class TargetError(RunError):
    """A target fails on one network after another, so that no more should be tried."""


class TrackingError(RunError):
    """The tracking server cannot be used."""


class WorkerError(RunError):
    """A process that trained was killed, again and again without an epoch between."""


class StorageError(RunError):
    """The database of a study went away and was waited for in vain."""


class MeetingError(RunError):
    """Too few sites of a federation came, or what one of them gave cannot be used."""
