"""A commit of a git repository, with a signature that counts, as a folder; git(1) does all of it.

The repository is kept, bare, where the scope's other work is; ``refs/lsh/applied/REF`` is what was applied of it last.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsh_systemd import plainfile
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope, work_dir
from lsh_systemd.text import escape_controls, visible

# ext:: and its like run commands; what is left carries files only.
_PROTOCOLS = "file:git:http:https:ssh"
_SIGNER = re.compile(rb'^Good "git" signature for (.+) with ', re.MULTILINE)
# Stalled for so long (s), a server counts as away: a timer calls again.
_STALLED = 60


@dataclass(frozen=True, kw_only=True)
class Origin:
    """``ref``: a branch or tag. ``signers``: a file as ssh-keygen(1) has it under ALLOWED SIGNERS, None where any
    commit will do. ``back``: whether the commit may be older than what was applied before."""

    url: str
    ref: str = "HEAD"
    signers: Path | None = None
    back: bool = False


@dataclass(frozen=True, kw_only=True)
class Commit:
    """``folder``: its files. ``signer``: by the name that the file of allowed signers has."""

    id: str
    folder: Path
    signer: str | None


class Checkouts:
    """The repositories that one scope applies jobs from."""

    def __init__(self, scope: Scope) -> None:
        self._path = work_dir(scope) / "git"

    @contextlib.contextmanager
    def fetched(self, origin: Origin) -> Iterator[Commit]:
        """What the ref is now, while the block lasts. Raises BadInput for a URL, ref or file of signers that are none,
        LshError where it cannot be had, is not signed as it must be, or is behind what was applied."""
        _check(origin)
        folder = self._path / hashlib.sha256(origin.url.encode()).hexdigest()[:32]
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LshError(f"cannot write {folder}: {error.strerror}", hint="try sudo, or --user") from None
        with _locked(folder):
            git = _Git(folder)
            _tidy(folder)
            if not (folder / "HEAD").exists():
                git("init", "--quiet", "--bare")
            git("fetch", "--quiet", "--no-tags", "--", origin.url, f"+{origin.ref}:refs/lsh/fetched")
            signer = git.verify(origin.signers) if origin.signers else None
            commit = git("rev-parse", "--verify", "refs/lsh/fetched^{commit}").strip()
            if not origin.back:
                git.check_ahead(_applied(origin), commit)
            with tempfile.TemporaryDirectory(prefix="tree.", dir=folder) as tree:
                git.unpack(commit, Path(tree))
                yield Commit(id=commit, folder=Path(tree), signer=signer)

    def note_applied(self, origin: Origin, commit: Commit) -> None:
        """From now on this is what must not be gone behind. Within ``fetched``."""
        _Git(commit.folder.parent)("update-ref", _applied(origin), commit.id)


def _tidy(folder: Path) -> None:
    """Take away what one that was killed has left. Under the lock."""
    for lock in (*folder.glob("*.lock"), *folder.glob("refs/**/*.lock")):
        lock.unlink(missing_ok=True)
    for tree in folder.glob("tree.*"):
        shutil.rmtree(tree, ignore_errors=True)


def _applied(origin: Origin) -> str:
    return f"refs/lsh/applied/{hashlib.sha256(origin.ref.encode()).hexdigest()[:16]}"


def _check(origin: Origin) -> None:
    for what, text in (("URL", origin.url), ("ref", origin.ref)):
        if (
            not text
            or text.startswith("-")
            or not text.isprintable()
            or (what == "ref" and set(text) & set(" ~^:?*[\\+"))
        ):
            raise BadInput(f"{visible(text)} is no git {what}", hint="--git https://host/jobs.git --ref main")
    if origin.signers is None:
        return
    try:
        _, status = plainfile.read(origin.signers, 0)
        folder = plainfile.stranger(origin.signers)
    except OSError as error:
        raise BadInput(
            f"cannot read {origin.signers}: {error.strerror}",
            hint="a line of it is NAME and a public key, as in ssh-keygen(1), ALLOWED SIGNERS",
        ) from None
    if status.st_mode & 0o022 or status.st_uid not in (0, os.getuid()):
        raise BadInput(f"others may write to {origin.signers}", hint=f"chmod go-w {origin.signers}")
    if folder:
        raise BadInput(f"others may replace {origin.signers}, as {folder} is theirs", hint=f"chmod go-w {folder}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LshError("another apply of this repository goes on") from None
    finally:
        os.close(descriptor)


class _Git:
    """git in a repository of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *argv: str) -> str:
        """What it prints. Raises LshError with its last word."""
        done = self._run(*argv)
        if done.returncode:
            raise LshError(f"git: {_last_word(done)}")
        return done.stdout.decode(errors="replace")

    def verify(self, signers: Path) -> str:
        """Who signed what was fetched: the tag, where it is an annotated one, else the commit."""
        kind = "tag" if self("cat-file", "-t", "refs/lsh/fetched").strip() == "tag" else "commit"
        programs = {
            "gpg.ssh.allowedSignersFile": str(signers.absolute()),
            # The keys of a keyring are not those of the file.
            "gpg.program": "false",
            "gpg.x509.program": "false",
            "gpg.ssh.program": "ssh-keygen",
        }
        settings = [word for name, value in programs.items() for word in ("-c", f"{name}={value}")]
        fetched = self("rev-parse", "refs/lsh/fetched").strip()
        done = self._run(*settings, f"verify-{kind}", "--raw", fetched)
        if done.returncode:
            raise LshError(
                f"the {kind} {fetched[:12]} has no signature of anybody in {signers}",
                hint="git commit -S, with gpg.format=ssh; nothing was changed",
            )
        signer = _SIGNER.search(done.stderr + done.stdout)
        return escape_controls(signer[1].decode(errors="replace"), keep="") if signer else "?"

    def check_ahead(self, applied: str, commit: str) -> None:
        """Raise LshError where the commit lacks what was applied before: who gives out an old one that was signed, too,
        would take changes back."""
        if self._run("rev-parse", "--verify", "--quiet", applied).returncode:
            return
        if self._run("merge-base", "--is-ancestor", applied, commit).returncode:
            raise LshError(
                f"the commit {commit[:12]} does not come after the one that was applied last",
                hint="--back takes it all the same; nothing was changed",
            )

    def unpack(self, commit: str, folder: Path) -> None:
        """git itself writes the files: no link in the commit leads it out of the folder."""
        (self._folder / "index").unlink(missing_ok=True)
        self("--work-tree", str(folder), "read-tree", "--reset", "-u", commit)

    def _run(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        settings = [
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "transfer.credentialsInUrl=die",
            "-c",
            "fetch.fsckObjects=true",
        ]
        # Whatever goes on in the repository goes on under our lock.
        settings += ["-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"]
        settings += ["-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={_STALLED}"]
        try:
            return subprocess.run(
                ["git", "--git-dir", str(self._folder), *settings, *argv],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise LshError("git is not installed here", hint="sudo apt install git") from None


def _environment() -> dict[str, str]:
    """Nobody is there to be asked for a password."""
    ssh = f"ssh -o BatchMode=yes -o ServerAliveInterval={_STALLED // 4}"
    given = {"GIT_SSH_COMMAND": ssh} | {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    return given | {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "LC_ALL": "C"}


# What a hook of git's, say, has set for a repository of its own.
_REPOSITORY = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"}


def _last_word(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
    return escape_controls(told.partition(": ")[2] or told, keep="")[:500] or f"exit status {done.returncode}"
