"""What every service process needs around its own rooms."""

from importlib.metadata import version

VERSION = version("causeloop-runtime")
"""The version of this build, shown on dashboards and in the broker's service list."""
