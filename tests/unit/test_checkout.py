"""What of a git repository is taken, and what is not: with git(1) and ssh-keygen(1) themselves."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lsh_systemd.checkout import Checkouts, Origin
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope

Take = Callable[..., dict[str, str]]


class Repository:
    """One to take from, and the keys of those who write to it."""

    def __init__(self, folder: Path) -> None:
        self.path, self._keys = folder / "repository", folder
        for name in ("ann", "eve"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        self.signers = folder / "signers"
        self.signers.write_text(f"ann@example.org {(folder / 'ann.pub').read_text()}")
        self("init", "--quiet", "--initial-branch=main", str(self.path))

    def __call__(self, *argv: str) -> str:
        at = () if argv[0] == "init" else ("-C", str(self.path))
        own = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "gpg.format=ssh")
        done = subprocess.run(["git", *at, *own, *argv], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, text: str, *, by: str | None = "ann") -> str:
        (self.path / "jobs.yaml").write_text(text)
        self("add", "--all")
        signed = ("-c", f"user.signingkey={self._keys / by}", "commit", "-S") if by else ("commit", "--no-gpg-sign")
        self(*signed, "--quiet", "--allow-empty", "-m", text)
        return self("rev-parse", "HEAD")

    def tag(self, name: str, *, by: str) -> None:
        self("-c", f"user.signingkey={self._keys / by}", "tag", "-s", "-m", name, name)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def take(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """What `apply --git` would read, taken as applied."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    checkouts = Checkouts(Scope.USER)

    def take(**given: object) -> dict[str, str]:
        origin = Origin(**{"url": str(repository.path), "ref": "main", "signers": repository.signers} | given)  # type: ignore[arg-type]
        with checkouts.fetched(origin) as commit:
            checkouts.note_applied(origin, commit)
            return {
                "id": commit.id,
                "signer": commit.signer or "",
                "text": (commit.folder / "jobs.yaml").read_text(),
                "names": " ".join(sorted(path.name for path in commit.folder.iterdir())),
            }

    return take


def test_a_signed_commit_and_the_next(repository: Repository, take: Take) -> None:
    one = repository.commit("one")
    assert take() == {"id": one, "signer": "ann@example.org", "text": "one", "names": "jobs.yaml"}
    (repository.path / "jobs.yaml").rename(repository.path / "old.yaml")
    two = repository.commit("two")
    assert take() == {"id": two, "signer": "ann@example.org", "text": "two", "names": "jobs.yaml old.yaml"}
    assert take()["id"] == two


def test_only_who_may(repository: Repository, take: Take) -> None:
    repository.commit("one")
    take()
    for by in ("eve", None):
        repository.commit(f"by {by}", by=by)
        with pytest.raises(LshError, match="has no signature of anybody in"):
            take()
    assert take(signers=None)["text"] == "by None"


def test_an_older_commit_is_not_taken_again(repository: Repository, take: Take) -> None:
    one = repository.commit("one")
    repository.commit("two")
    take()
    repository("reset", "--quiet", "--hard", one)
    with pytest.raises(LshError, match="does not come after the one that was applied last"):
        take()
    assert take(back=True)["text"] == "one"
    repository.commit("three")
    assert take()["text"] == "three"


def test_a_tag_counts_by_its_own_signature(repository: Repository, take: Take) -> None:
    repository.commit("one", by=None)
    repository.tag("v1", by="ann")
    repository.tag("v2", by="eve")
    assert take(ref="v1")["signer"] == "ann@example.org"
    with pytest.raises(LshError, match=r"the tag [0-9a-f]+ has no signature"):
        take(ref="v2")


def test_what_a_killed_one_left_is_in_nobody_s_way(repository: Repository, take: Take, tmp_path: Path) -> None:
    repository.commit("one")
    take()
    (folder,) = [path.parent for path in (tmp_path / "home").rglob("HEAD")]
    for name in ("index.lock", "shallow.lock", "refs/lsh/fetched.lock", "packed-refs.lock"):
        (folder / name).write_text("")
    (folder / "tree.dead/sub").mkdir(parents=True)
    repository.commit("two")
    assert take()["text"] == "two"
    assert not list(folder.glob("tree.*"))


@pytest.mark.parametrize(("mode", "good"), [(0o755, True), (0o1777, True), (0o775, False), (0o757, False)])
def test_who_may_replace_the_file_of_signers(
    repository: Repository, take: Take, tmp_path: Path, mode: int, good: bool
) -> None:
    repository.commit("one")
    (keys := tmp_path / "keys").mkdir()
    repository.signers.rename(keys / "signers")
    keys.chmod(mode)
    (tmp_path / "link").symlink_to(keys / "signers")
    for signers in (keys / "signers", tmp_path / "link"):
        if good:
            assert take(signers=signers)["text"] == "one"
        else:
            with pytest.raises(BadInput, match="others may replace"):
                take(signers=signers)


def test_a_link_does_not_lead_elsewhere(repository: Repository, take: Take, tmp_path: Path) -> None:
    """A link, and then a file below its name: git's own objects can say that; a file system cannot."""
    out = tmp_path / "out"
    out.mkdir()
    (repository.path / "sub").symlink_to(out)
    repository.commit("one")
    blob = repository("hash-object", "-w", "jobs.yaml")
    link = repository("rev-parse", "HEAD:sub")
    inner = _tree(repository, f"100644 blob {blob}\tx\n")
    tree = _tree(repository, f"100644 blob {blob}\tjobs.yaml\n120000 blob {link}\tsub\n040000 tree {inner}\tsub\n")
    commit = repository("commit-tree", "-m", "bad", "-p", "HEAD", tree)
    repository("update-ref", "refs/heads/main", commit)
    with pytest.raises(LshError):
        take(signers=None)
    assert list(out.iterdir()) == []


def _tree(repository: Repository, lines: str) -> str:
    argv = ["git", "-C", str(repository.path), "mktree"]
    return subprocess.run(argv, input=lines, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "--upload-pack=touch x"}, "is no git URL"),
        ({"url": ""}, "is no git URL"),
        ({"ref": "--all"}, "is no git ref"),
        ({"ref": "main:refs/heads/x"}, "is no git ref"),
        ({"ref": "a\nb"}, "is no git ref"),
        ({"signers": Path("/nowhere/signers")}, "cannot read"),
        ({"signers": Path("/dev/null")}, "no plain file"),
    ],
)
def test_what_is_none(take: Take, given: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        take(**given)


@pytest.mark.parametrize(
    "given",
    [{"url": "ext::sh -c touch%20x"}, {"url": "/nowhere"}, {"ref": "nobranch"}, {"url": "http://a:b@127.0.0.1:9/x"}],
)
def test_what_cannot_be_had(repository: Repository, take: Take, given: dict[str, object]) -> None:
    repository.commit("one")
    with pytest.raises(LshError, match="git: ") as error:
        take(**given)
    assert "a:b" not in str(error.value)
