"""The HTTP API: the same verbs as the command line's, through the same functions, on the same store."""

import os
import sys

# Where lsh-systemd-api has FastAPI, for us alone, on a Debian whose own is too old.
_PACKAGED = "/usr/lib/lsh-systemd-api"

if os.path.isdir(_PACKAGED):  # noqa: PTH112  (pathlib would be imported for it)
    sys.path.insert(0, _PACKAGED)
