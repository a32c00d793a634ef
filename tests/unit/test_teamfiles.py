"""The team's key, environment files and notes on this machine: for their owner alone, and whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lsh_systemd import teamfiles
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope
from lsh_systemd.teamfiles import Notes


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("LSH_SECRETS_KEY", raising=False)
    return tmp_path


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_the_key_s_places_in_their_order(home: Path) -> None:
    environ: dict[str, str] = {}
    assert teamfiles.key(Scope.USER, None, environ) is None
    written(home / "config/lsh/secrets.key", b"of the file\r\n")
    assert teamfiles.key(Scope.USER, None, environ) == b"of the file"
    environ["LSH_SECRETS_KEY"] = "of the variable"
    assert teamfiles.key(Scope.USER, None, environ) == b"of the variable"
    environ["CREDENTIALS_DIRECTORY"] = str(home / "run")
    assert teamfiles.key(Scope.USER, None, environ) == b"of the variable"
    written(home / "run/lsh-secrets-key", b" of the run \n", 0o440)  # systemd's own mode
    assert teamfiles.key(Scope.USER, None, environ) == b" of the run "
    named = written(home / "named", b"\xff\x00 any bytes")
    assert teamfiles.key(Scope.USER, named, environ) == b"\xff\x00 any bytes"


@pytest.mark.parametrize(
    ("data", "mode", "expected"),
    [
        (b"hunter2", 0o640, "may be read by others"),
        (b"hunter2", 0o604, "may be read by others"),
        (b"", 0o600, "holds no key"),
        (b"\n", 0o600, "holds no key"),
        (b"x" * 4097, 0o600, "holds no key"),
        (None, 0o700, "is not a file"),
    ],
)
def test_what_is_no_key(home: Path, data: bytes | None, mode: int, expected: str) -> None:
    path = home / "key"
    if data is None:
        path.mkdir(mode=mode)
    else:
        written(path, data, mode)
    with pytest.raises(BadInput, match=expected) as caught:
        teamfiles.key(Scope.USER, path, {})
    assert "hunter2" not in caught.value.message.replace(str(home), "")
    with pytest.raises(BadInput, match="No such file"):
        teamfiles.key(Scope.USER, home / "nope", {})


def test_a_file_is_written_for_its_owner_alone_and_keeps_its_owner(home: Path) -> None:
    path = written(home / ".env", b"A=1", 0o666)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    teamfiles.save(path, b"A=2")
    after = path.stat()
    assert path.read_bytes() == b"A=2"
    assert stat.S_IMODE(after.st_mode) == 0o600
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    teamfiles.save(path, b"A=2")
    assert path.stat() == after


def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(home: Path) -> None:
    path = written(home / "app/.env", b"A=1")
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom lsh_systemd import teamfiles\n"
        "from lsh_systemd.errors import LshError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    teamfiles.save(Path(sys.argv[1]), b'B=' + b'x' * 200)\n"
        "except LshError as error:\n    print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write '{path}': File too large\n"
    assert path.read_bytes() == b"A=1"
    assert [each.name for each in path.parent.iterdir()] == [".env"]


def test_a_signal_waits_until_the_file_is_written(home: Path) -> None:
    path = written(home / "app/.env", b"A=1")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom lsh_systemd import teamfiles\n"
        "sync = os.fsync\n"
        "def interrupted(descriptor):\n    os.kill(os.getpid(), signal.SIGTERM)\n    sync(descriptor)\n"
        "os.fsync = interrupted\n"
        "teamfiles.save(Path(sys.argv[1]), b'A=2')\nprint('still here')"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
    assert path.read_bytes() == b"A=2"
    assert [each.name for each in path.parent.iterdir()] == [".env"]


def test_notes_are_by_project_environment_and_file(home: Path) -> None:
    notes, other = Notes(Scope.USER, "https://a"), Notes(Scope.USER, "https://b")
    file = home / "app/../.env"
    assert (notes.base("prod", file), notes.seen("prod")) == (None, 0)
    notes.note("prod", file=file, base=7, seen=9)
    assert notes.base("prod", home / ".env") == 7
    assert (notes.base("test", file), notes.seen("test")) == (None, 0)
    assert (other.base("prod", file), other.seen("prod")) == (None, 0)
    assert stat.S_IMODE(notes.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"https://a": 7}', '{"https://a": {"prod": {"seen": "9", "files": []}}}']
)
def test_notes_that_are_damaged_are_no_notes(home: Path, text: str) -> None:
    notes = Notes(Scope.USER, "https://a")
    written(notes.path, text.encode())
    assert (notes.base("prod", home / ".env"), notes.seen("prod")) == (None, 0)
    notes.note("prod", file=home / ".env", base=1, seen=1)
    assert (notes.base("prod", home / ".env"), notes.seen("prod")) == (1, 1)


def test_what_is_not_there_or_no_file_is_told(home: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        teamfiles.load(home / ".env")
    with pytest.raises(BadInput, match="is not a file"):
        teamfiles.load(home)
    with pytest.raises(LshError, match=r"cannot write .*\\x1b"):
        teamfiles.save(home / "no\x1b/.env", b"A=1")
