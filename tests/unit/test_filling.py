"""{{ name }} in commands: whatever a value holds, the shell takes it for one word, or it is refused."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lsh_systemd.errors import BadInput
from lsh_systemd.filling import escaped, fill, fill_command, fill_whole, fill_words

VALUES: dict[str, Any] = {
    "db": "prod",
    "odd": "a b; rm -rf '/' $(x) \"`\\\n",
    "number": 80,
    "yes": True,
    "many": ["/etc", "/my files"],
    "empty": "",
    "env.HOME": "/root",
}


def look(name: str) -> Any:
    if name not in VALUES:
        raise BadInput(f"there is no {name}")
    return VALUES[name]


@pytest.mark.parametrize(
    ("command", "filled"),
    [
        ("pg_dump {{ db }} > x", "pg_dump prod > x"),
        ("pg_dump {{db}}_$(date +%F)", "pg_dump prod_$(date +%F)"),
        ("tar {{ many }}", "tar /etc '/my files'"),
        ("x {{ empty }}", "x ''"),
        ("awk '$5 > {{ number }} {print}' | x \"{{ db }}\"", "awk '$5 > 80 {print}' | x \"prod\""),
        ("x # {{ db }}\ny", "x # prod\ny"),
        ("{{ env.HOME }}/bin/x {{ yes }}", "/root/bin/x true"),
        # What is no blank of ours stays: shells, docker and awk have braces, too.
        ("docker ps --format '{{.Names}}' ${HOME} {{ json . }} {{}}", None),
        (r"docker \{{ db }} \\{{ db }}", r"docker {{ db }} \{{ db }}"),
    ],
)
def test_values_go_into_commands_as_words(command: str, filled: str | None) -> None:
    assert fill_command(command, look) == (command if filled is None else filled)


@pytest.mark.parametrize(
    "command",
    [
        "x '{{ odd }}'",
        'x "{{ odd }}"',
        "x # {{ odd }}",
        "cat <<E\n{{ odd }}\nE",
        "x `y {{ odd }}`",
        "x $'a' {{ odd }}",
        "x ${{ odd }}",
        "x $(({{ odd }}))",
        "x ${y:-{{ odd }}}",
        'x "$(y "{{ odd }}")"',
        'x "${y:-"{{ odd }}"}"',
        "x {{ nothing }}",
    ],
)
def test_what_would_not_be_one_word_there_is_refused(command: str) -> None:
    with pytest.raises(BadInput):
        fill_command(command, look)


BASH: Any = {"shell": "/bin/bash"}
ARITHMETIC = "a[$(: >canary)]"


@pytest.mark.parametrize(
    "command",
    [
        "[[ {{ v }} -gt 5 ]]",
        "[\\\n[ {{ v }} -gt 5 ]]",
        "arr[{{ v }}]=1",
        "arr=([{{ v }}]=1)",
        "declare -i n={{ v }}",
        "declare -i n; n={{ v }}",
        "f() { local -i n={{ v }}; }; f",
        "f() { local {{ v }}=1; }; f",
        "let {{ v }}",
        "'let' {{ v }}",
        "echo $[ {{ v }} ]",
        "test -v {{ v }}",
        "[ -v {{ v }} ]",
        "printf -v {{ v }} a",
        "read {{ v }}",
        "OPTIND={{ v }}",
        "echo $(( {{ v }} ))",
    ],
)
def test_what_bash_takes_for_arithmetic_is_refused(command: str) -> None:
    with pytest.raises(BadInput, match="cannot be"):
        fill_command(command, lambda name: ARITHMETIC, **BASH)
    with pytest.raises(BadInput, match="no run can bring it"):
        fill_command(command, look, **BASH, later=["v"])
    assert "{{" not in fill_command(command, lambda name: 7, **BASH)


def test_the_korn_shells_go_further() -> None:
    for command in ("[ {{ v }} -gt 5 ]", "exit {{ v }}", "HISTSIZE={{ v }}"):
        assert ARITHMETIC in fill_command(command, lambda name: ARITHMETIC, **BASH)
        for korn in ("ksh", "mksh", "zsh"):
            with pytest.raises(BadInput):
                fill_command(command, lambda name: ARITHMETIC, **(BASH | {"shell": f"/bin/{korn}"}))


@pytest.mark.parametrize(
    "command",
    ["grep '[[:space:]]' {{ odd }}", "/usr/local/bin/read {{ odd }}", "printf %s {{ odd }}", "[ -n {{ odd }} ]",
     "[ -d x ] && grep -v {{ odd }}", "export X={{ odd }}", "while read x; do y {{ odd }}; done"],
)  # fmt: skip
def test_what_only_looks_like_that_is_not(command: str) -> None:
    assert "rm -rf" in fill_command(command, look, **BASH)


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("`x` {{ v }}", ""),
        ("`x` {{ v }}", []),
        ("{{ v }} x `y`", "LD_X=/tmp/x"),
        ("cat <<E\n{{ v }}\nE", "E"),
        ("cat <<-'EOF'\n\tE{{ v }}\nEOF", "OF"),
        ("cat <<EOF\nE\\\n{{ v }}\nEOF", "OF"),
    ],
)
def test_where_nothing_is_quoted_a_value_is_a_word_and_no_more(command: str, value: Any) -> None:
    with pytest.raises(BadInput):
        fill_command(command, lambda name: value)
    assert "ok" in fill_command(command, lambda name: "ok")


@pytest.mark.parametrize(
    ("command", "value", "filled"),
    [
        ("{{ v }} x", "LD_X=/tmp/x", "'LD_X=/tmp/x' x"),
        ("x {a,{{ v }}}", "b,c", "x {a,'b,c'}"),
        ("x {1..{{ v }}}", "5", "x {1..5}"),
        ("x {{ v }}>y", "2", "x '2'>y"),
    ],
)
def test_a_word_is_nothing_else(command: str, value: str, filled: str) -> None:
    assert fill_command(command, lambda name: value) == filled


def test_a_shell_that_quotes_otherwise_gets_harmless_values_only() -> None:
    python = {"shell": "/usr/bin/python3"}
    assert fill_command("print({{ number }})", look, **python) == "print(80)"
    with pytest.raises(BadInput):
        fill_command("print({{ odd }})", look, **python)


def test_elsewhere_values_are_what_they_are() -> None:
    assert fill("{{ db }}: {{ odd }}", look) == f"prod: {VALUES['odd']}"
    assert fill_whole("{{ number }}", look) == 80 and fill_whole("{{ yes }}", look) is True
    assert fill_whole("{{ many }}", look) == VALUES["many"]
    assert fill_words(["tar", "{{ many }}", "x{{ db }}"], look) == ["tar", "/etc", "/my files", "xprod"]
    with pytest.raises(BadInput, match="is a list"):
        fill("x {{ many }}", look)


@given(st.text(st.sampled_from("\\{} dbx")))
def test_an_escaped_text_is_filled_to_itself(text: str) -> None:
    assert fill(escaped(text), look) == text
    assert fill_command(escaped(text), look) == text


# --- the law, asked of the shells themselves

SHELLS = [path for path in ("/bin/dash", "/bin/bash") if Path(path).exists()]
ATTACKS = ["$(: >canary)", "`: >canary`", "; : >canary;", "\n: >canary\n", "' ; : >canary; '", '" ; : >canary; "']
hostile = st.lists(
    st.sampled_from([*ATTACKS, "'", '"', "\\", "$", "a", " ", "}", ")", "E\n", "#", "é"]), min_size=1, max_size=4
).map("".join)
pieces = st.sampled_from(
    [*"'\"\\$`(){}#;\n\r =xE<>", "{{ v }}", "echo ", "$(", "${y:-", "<<E\n", "$'", "$((", "&&", "|"]
)
law = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def run(shell: str, command: str, folder: Path) -> bytes:
    argv = [shell, "-c", command]
    done = subprocess.run(argv, cwd=folder, env={"PATH": "/nowhere"}, capture_output=True, input=b"", timeout=20)
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@law
@given(hostile)
def test_a_value_arrives_as_it_is(shell: str, value: str) -> None:
    command = fill_command("printf '%s|' A{{ v }}B {{ v }} x={{ v }}; printf %s {{ v }}", lambda name: value)
    got = run(shell, command, Path("/"))
    assert got.decode() == f"A{value}B|{value}|x={value}|{value}"


@pytest.mark.parametrize("shell", SHELLS)
@law
@given(st.lists(pieces, max_size=12).map("".join), hostile)
@example('"$(echo "{{ v }}")"', "$(: >canary)")
@example('"${y:-"{{ v }}"}"', "$(: >canary)")
@example("$'{{ v }}", "\\'; : >canary #")
@example("#'\n{{ v }}'", "; : >canary;")
@example("x#'{{ v }}'", "'; : >canary; '")
@example("\\\n#'\n{{ v }}'", "; : >canary;")
@example("echo a\\ #'\n{{ v }}'", "; : >canary;")
@example("echo a\\\n#'\n{{ v }}'", "; : >canary;")
@example("echo $(x)#'\n{{ v }}'", "; : >canary;")
@example("echo a\r#'\n{{ v }}'", "; : >canary;")
def test_no_value_adds_a_command(tmp_path_factory: pytest.TempPathFactory, shell: str, text: str, value: str) -> None:
    try:
        command = fill_command(f"{text}{{{{ v }}}}", lambda name: value)
    except BadInput:
        return
    folder = tmp_path_factory.mktemp("shell")
    run(shell, command, folder)
    assert not (folder / "canary").exists(), command
