"""Which Supabase project is meant, and where its key comes from."""

from pathlib import Path

import pytest

from lsh_systemd import config, connect
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope

URL = "https://abcdefgh.supabase.co"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's lsh.toml and key are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lsh").mkdir()
    return tmp_path / "lsh"


def _key_file(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_from_the_file_of_settings(folder: Path, tmp_path: Path) -> None:
    assert not connect.is_configured(Scope.USER, {})
    (folder / "lsh.toml").write_text(f'[supabase]\nurl = "{URL}/"\n')
    _key_file(folder / "supabase.key", "sb_secret_one\n")
    assert connect.is_configured(Scope.USER, {})
    found = connect.target(Scope.USER, {})
    assert (found.url, found.key) == (URL, "sb_secret_one")
    _key_file(tmp_path / "other", "sb_secret_two\n")
    (folder / "lsh.toml").write_text(f'[supabase]\nurl = "{URL}"\nkey_file = "{tmp_path}/other"\n')
    assert connect.target(Scope.USER, {}).key == "sb_secret_two"
    _key_file(tmp_path / "supabase-key", "sb_secret_three")
    for others in ({}, {"SUPABASE_URL": URL, "SUPABASE_KEY": "sb_secret_four"}):
        assert connect.target(Scope.USER, {"CREDENTIALS_DIRECTORY": str(tmp_path)} | others).key == "sb_secret_three"


@pytest.mark.parametrize(
    "names",
    ["SUPABASE_SECRET_KEY SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_ROLE_KEY SUPABASE_KEY", "SUPABASE_ANON_KEY"],
)
def test_from_the_environment_the_first_that_is_set(folder: Path, names: str) -> None:
    (folder / "lsh.toml").write_text('[supabase]\nurl = "https://elsewhere.example"\n')
    keys = {name: f"key-{number}" for number, name in enumerate(names.split())}
    found = connect.target(Scope.USER, {"SUPABASE_URL": URL, **keys})
    assert (found.url, found.key) == (URL, "key-0")
    assert "key-0" not in repr(found)


@pytest.mark.parametrize(
    ("settings", "key", "mode", "words"),
    [
        ("", "k", 0o600, "no Supabase project"),
        ('[supabase]\nurl = "ftp://x"', "k", 0o600, "is not a Supabase URL"),
        ('[supabase]\nurl = "https://x/?a=b"', "k", 0o600, "is not a Supabase URL"),
        ('[supabase]\nurl = "https://x\\n.example"', "k", 0o600, "is not a Supabase URL"),
        (f'[supabase]\nurl = "{URL}"', "k", 0o640, "may be read by others"),
        (f'[supabase]\nurl = "{URL}"', " \n", 0o600, "is not one"),
        (f'[supabase]\nurl = "{URL}"', "two\nlines", 0o600, "is not one"),
        (f'[supabase]\nurl = "{URL}"', None, 0, "is not there"),
        (f'[supabase]\nurl = "{URL}"\nkey_file = "/dev/null"', "k", 0o600, "no plain file"),
        ("[supabase]\nurl = 1", "k", 0o600, "must be text"),
        ('[supabase]\nkey = "k"', "k", 0o600, "'key' is not a setting"),
        ("supabase = 1", "k", 0o600, "must be a table"),
    ],
)
def test_what_cannot_be(folder: Path, settings: str, key: str | None, mode: int, words: str) -> None:
    (folder / "lsh.toml").write_text(settings)
    if key is not None:
        _key_file(folder / "supabase.key", key, mode)
    with pytest.raises(BadInput, match=words):
        connect.target(Scope.USER, {})


def test_other_settings_stand_beside_it(folder: Path) -> None:
    (folder / "lsh.toml").write_text(f'keep_days = 3\n[supabase]\nurl = "{URL}"\n')
    assert config.load(Scope.USER) == config.Config(keep_days=3, supabase=config.Supabase(url=URL))


def test_the_fleet_s_settings(folder: Path) -> None:
    (folder / "lsh.toml").write_text('[fleet]\nslots = 9\ntags = ["gpu"]\n')
    assert config.load(Scope.USER).fleet == config.Fleet(slots=9, tags=("gpu",))
    for wrong in ("slots = -1", "slots = true", 'slots = "4"', "slots = 1001", 'tags = "gpu"', "tags = [1]", "x = 1"):
        (folder / "lsh.toml").write_text(f"[fleet]\n{wrong}\n")
        with pytest.raises(BadInput, match=r"lsh\.toml: "):
            config.load(Scope.USER)
    (folder / "lsh.toml").write_text("fleet = 1\n")
    with pytest.raises(BadInput):
        config.load(Scope.USER)
