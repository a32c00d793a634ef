"""The real shellcheck, as far as it is installed: what is passed on of it."""

import pytest

from lsh_systemd.shellcheck import remarks
from tests.tools import needs

pytestmark = needs("shellcheck")


@pytest.mark.parametrize(
    ("command", "shell", "code"),
    [
        ("if true; then echo x", "/bin/sh", "SC1046"),
        ("[ $x = a ] && [[ $x == b ]]", "/bin/sh", "SC3010"),
        ("for f in $(ls *.mp3); do true; done", "/bin/bash", "SC2045"),
    ],
)
def test_errors_and_warnings_are_passed_on(command: str, shell: str, code: str) -> None:
    assert any(remark.startswith(f"{code}: ") for remark in remarks(command, shell))


@pytest.mark.parametrize(
    ("command", "shell"),
    [
        ("tar -czf backup_$(date +%Y%m%d).tar.gz /data", "/bin/sh"),
        ('echo "$TOKEN" "$HOME"', "/bin/sh"),
        (". /etc/default/app && cd /srv && ./run", "/bin/sh"),
        ("[[ $x == b ]]", "/bin/bash"),
        ("if true; then echo x", "/usr/bin/fish"),
    ],
)
def test_what_is_usual_in_a_command_is_let_be(command: str, shell: str) -> None:
    assert remarks(command, shell) == []
