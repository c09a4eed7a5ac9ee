"""What can go wrong with a Kafka of our own; each message names the thing and the way out."""

from __future__ import annotations


class ToolError(Exception):
    """Base of all errors that the tool raises on purpose."""


class MissingToolError(ToolError, FileNotFoundError):
    """A program that is not installed, or too old; says what to install."""


class DownloadError(ToolError, OSError):
    """Kafka's libraries could not be fetched; shows what Maven said."""


class SettingsError(ToolError, ValueError):
    """Settings of a cluster that contradict each other or the data in its folder."""


class PortInUseError(ToolError, OSError):
    """A port at which somebody else listens already."""


class BrokerStateError(ToolError, RuntimeError):
    """A broker that was asked for what it cannot do now, such as to pause when it does not run."""


class StartError(ToolError, RuntimeError):
    """A broker that ended or did not answer in time; shows the end of its output."""
