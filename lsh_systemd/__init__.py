"""lsh-systemd: jobs as systemd units, with an exact record of every run."""

__version__ = "0.1.0"
