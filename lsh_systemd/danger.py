"""Commands that usually destroy: what is known of them, read from the text alone.

A rule errs on the side of silence: what a careful person writes each day must pass. Nothing is ever run.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lsh_systemd.shellwords import MARK, Command, Script, parse
from lsh_systemd.text import visible

_SYSTEM = frozenset("/bin /boot /dev /etc /home /lib /lib32 /lib64 /libx32 /proc /root /sbin /sys /usr /var".split())
_DISK = re.compile(
    r"/dev/(?:(?:sd|hd|vd|xvd)[a-z]+\d*|nvme\d+n\d+(?:p\d+)?|mmcblk\d+(?:p\d+)?|md\d+|dm-\d+|mapper/.+|disk/.+)"
)
_ACCOUNTS = frozenset("/etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/sudoers /etc/fstab".split())
_SHELLS = frozenset("sh bash dash zsh ksh mksh ash fish".split())
_INTERPRETERS = _SHELLS | {"python", "python2", "python3", "perl", "ruby", "node", "php"}
_READERS = _INTERPRETERS | {"source", "."}
_DOWNLOADERS = frozenset({"curl", "wget", "fetch", "aria2c"})
# From the beginning of a word on: else a long one would be gone through from each of its places.
_BOMB = re.compile(r"(?<![\w:.])([\w:.]{1,100})\s*\(\)\s*\{\s*\1\s*\|\s*\1\s*&\s*\}\s*;?\s*\1")
_PARAMETER = re.compile(r"\$(?:\{([A-Za-z_]\w*|\d+|[@*#?])(:?[-=?+]|[%#/^,])?([^}]*)\}|([A-Za-z_]\w*|[0-9@*]))")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_EVERYTHING = re.compile(r"(?:/(?:\*|\.\*|\.|\{\*,\.\*\}|\.\[!\.\]\*))+$")
# Something that is not empty, whatever it is.
_SOMETHING = "\ue002"
# Commands that run another one: their options that take a value, and how many words stand before the command.
_WRAPPERS: Mapping[str, tuple[str, int]] = {
    "sudo": ("-u -g -h -p -C -T -U -D -R", 0), "doas": ("-u -C", 0), "env": ("-u -C -S", 0), "nice": ("-n", 0),
    "ionice": ("-c -n -p", 0), "nohup": ("", 0), "setsid": ("", 0), "timeout": ("-s -k", 1), "exec": ("-a", 0),
    "command": ("", 0), "builtin": ("", 0), "time": ("-f -o", 0), "stdbuf": ("-i -o -e", 0), "chronic": ("", 0),
    "flock": ("-w -E", 1), "chrt": ("", 1), "taskset": ("", 1), "busybox": ("", 0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a command would do. ``destroys``: usually more than was meant; else it is only doubtful."""

    message: str
    destroys: bool = True


def look(
    command: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
) -> list[Finding]:
    """What is dangerous in a shell's line, or in an argument vector. ``env`` and ``cwd`` are what is known to hold."""
    walk = _Walk(dict(env or {}), cwd)
    if isinstance(command, str):
        walk.text(command)
    else:
        walk.command(Command(words=tuple(word.replace("$", _SOMETHING) for word in command)), ())
    words = command.split() if isinstance(command, str) else command
    if stdin is not None and len(words) <= 2 and posixpath.basename(words[0]) in _SHELLS:
        walk.text(stdin)
    return list(dict.fromkeys(walk.found))


def programs(command: str | Sequence[str]) -> Iterator[str]:
    """The absolute paths of the programs and scripts that the command names to be run."""
    script = parse(command) if isinstance(command, str) else Script(commands=(Command(words=tuple(command)),), inner=())
    for each in script.commands:
        words = _unwrapped(each.words)
        if words and words[0].startswith("/"):
            yield words[0]
        name = posixpath.basename(words[0]) if words else ""
        if name in _READERS:
            argument = next((word for word in words[1:] if not word.startswith("-")), "")
            code = r"-\w*c" if name in _SHELLS else r"-\w*[cem]"
            if argument.startswith("/") and not any(re.fullmatch(code, word) for word in words):
                yield argument


class _Walk:
    def __init__(self, env: dict[str, str], cwd: str | None, depth: int = 0) -> None:
        self.env, self.cwd, self.depth = env, cwd, depth
        self.found: list[Finding] = []

    def text(self, text: str) -> None:
        if _BOMB.search(text):
            self.say("this is a fork bomb: it fills the machine with processes")
        if self.depth > 8:
            return
        script = parse(text)
        for inner in script.inner:
            self._nested(inner)
        pipeline: list[str] = []
        for each in script.commands:
            pipeline = pipeline if each.joint in ("|", "|&", "<(") else []
            self.command(each, script.inner, pipeline)
            words = _unwrapped(each.words)
            pipeline.append(posixpath.basename(words[0]) if words else "")
            if each.joint in ("|", "|&") and _DOWNLOADERS & {*pipeline[:-1]} and _reads_program(words):
                self.say(f"what {_first(pipeline)} downloads is run unseen")
            if each.joint == "<(" and pipeline[-1] in _DOWNLOADERS and _READERS & {*pipeline[:-1]}:
                self.say(f"what {pipeline[-1]} downloads is run unseen")

    def _nested(self, text: str) -> None:
        walk = _Walk(dict(self.env), self.cwd, self.depth + 1)
        walk.text(text)
        self.found += walk.found

    def command(self, command: Command, inner: Sequence[str], pipeline: Sequence[str] = ()) -> None:
        for operator, target in command.redirects:
            self._written(self._expanded(target)[0], whole=operator in (">", ">|", "&>"))
        words = _unwrapped(command.words, self.env)
        if not words:
            return
        name, arguments = posixpath.basename(words[0]), list(words[1:])
        if name in _SHELLS and any(re.fullmatch(r"-\w*c", each) for each in arguments):
            for code in [each for each in arguments if not each.startswith("-")][:1]:
                self._code(code, inner)
        elif name in ("eval", "source", ".", "ssh", "su", "runuser") or (name == "flock" and "-c" in arguments):
            self._code(" ".join(arguments[1:] if name == "ssh" else arguments), inner)
        if name.startswith("mkfs") or name == "mke2fs":
            name = "mkfs"
        if name == "xargs":
            name, arguments = next(((word, []) for word in arguments if word in ("rm", "sh")), ("", []))
        rule = _RULES.get(name)
        if rule:
            rule(self, arguments)

    def _code(self, text: str, inner: Sequence[str]) -> None:
        """A text that a shell reads: its marks are what the line around it puts there."""
        for number in MARK.findall(text):
            if int(number) < len(inner):
                script = parse(inner[int(number)])
                names = [posixpath.basename(_unwrapped(each.words)[0]) for each in script.commands if each.words]
                if names and names[0] in _DOWNLOADERS:
                    self.say(f"what {names[0]} downloads is run unseen")
        self._nested(text)

    def say(self, message: str, *, destroys: bool = True) -> None:
        self.found.append(Finding(message=message, destroys=destroys))

    def _expanded(self, word: str) -> tuple[str, str]:
        """The word with what is known of its variables, and one that may be empty."""
        unset = ""

        def value(match: re.Match[str]) -> str:
            nonlocal unset
            name, operator, rest = match[1] or match[4], match[2] or "", match[3] or ""
            if self.env.get(name):
                return self.env[name]
            if name == "HOME":
                return "~"
            if operator.endswith(("-", "=")) and rest:
                return self._expanded(rest)[0]
            if operator.endswith(("?", "+")) or name in ("PWD", "?", "#"):
                return _SOMETHING
            unset = unset or f"${name}"
            return ""

        return MARK.sub(_SOMETHING, _PARAMETER.sub(value, word)), unset

    def targets(self, arguments: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Operand, the path that it means (with what is below it), and the variable that it hangs on."""
        for word in _operands(arguments):
            path, unset = self._expanded(word)
            if not path:
                continue
            base = _EVERYTHING.sub("", path) or "/" if path.startswith("/") else _EVERYTHING.sub("", path)
            if base in ("*", ".", "./", ".*", "{*,.*}"):
                base = self.cwd or _SOMETHING
            elif not base.startswith(("/", "~")):
                base = posixpath.join(self.cwd or _SOMETHING, base)
            base = posixpath.normpath(base)
            yield word, "/" + base.lstrip("/") if base.startswith("/") else base, unset

    def over(self, arguments: Sequence[str], what: str) -> None:
        """Say what is done to everything below a path that should stay as it is."""
        for word, path, unset in self.targets(arguments):
            if path in ("/", "~", "~/") or path in _SYSTEM:
                shown = path if path.startswith("/") else "the home folder"
                if unset:
                    self.say(f"{visible(_unmarked(word))}: where {unset} is empty, this {what} {shown}")
                else:
                    self.say(f"this {what} {shown}")
            elif unset and path.startswith("/") and not word.startswith("/"):
                self.say(f"{visible(_unmarked(word))}: where {unset} is empty, this is {path}", destroys=False)

    def _written(self, path: str, *, whole: bool) -> None:
        if _DISK.fullmatch(path):
            self.say(f"this overwrites the disk {path}")
        elif path == "/proc/sysrq-trigger":
            self.say("this may stop the machine at once, as by its power switch")
        elif whole and path in _ACCOUNTS:
            self.say(f"this empties {path}")

    # --- the rules, each for one command and its arguments

    def rm(self, arguments: list[str]) -> None:
        if "--no-preserve-root" in arguments:
            self.say("--no-preserve-root lets rm delete everything")
        if _has(arguments, "rR", "--recursive"):
            self.over(arguments, "deletes")

    def chmod(self, arguments: list[str]) -> None:
        if not _has(arguments, "R", "--recursive"):
            return
        mode, *rest = [each for each in arguments if not _is_option(each)] or [""]
        self.over(rest, "changes the rights of all below")
        if re.fullmatch(r"0?[0-7]*[2367]|(?:[augo]*o|a|ao|ugo|)\+[rwx]*w[rwx]*", mode):
            self.say(f"chmod -R {mode} lets everybody change all files below", destroys=False)

    def chown(self, arguments: list[str]) -> None:
        if _has(arguments, "R", "--recursive"):
            operands = [each for each in arguments if not _is_option(each)]
            self.over(operands[1:], "changes the owner of all below")

    def dd(self, arguments: list[str]) -> None:
        for each in arguments:
            if each.startswith("of="):
                self._written(self._expanded(each[3:])[0], whole=True)

    def onto(self, arguments: list[str]) -> None:
        """What overwrites its last operand."""
        for path in [self._expanded(each)[0] for each in _operands(arguments)][-1:]:
            self._written(path, whole=True)

    def move(self, arguments: list[str]) -> None:
        *sources, target = _operands(arguments) or [""]
        if target == "/dev/null":
            self.say("mv onto /dev/null puts a file in the place of the device: use rm")
        self.over(sources, "moves away")
        self.onto(arguments)

    def disk(self, arguments: list[str]) -> None:
        """What wipes the devices that it names."""
        for word in _operands(arguments):
            path, unset = self._expanded(word)
            self._written(path, whole=False)
            if unset and not path:
                self.say(f"this wipes whatever {unset} names", destroys=False)

    def tee(self, arguments: list[str]) -> None:
        for each in _operands(arguments):
            self._written(self._expanded(each)[0], whole=not _has(arguments, "a", "--append"))

    def truncate(self, arguments: list[str]) -> None:
        for each in _operands(arguments):
            self._written(self._expanded(each)[0], whole=True)

    def find(self, arguments: list[str]) -> None:
        places = []
        for word in arguments:
            if word.startswith(("-", "(", "!")):
                break
            places.append(word)
        tests = {each for each in arguments if each.startswith("-")}
        deletes = "-delete" in tests or ("-exec" in tests and {"rm", "/bin/rm"} & set(arguments))
        free = {"-delete", "-exec", "-xdev", "-mount", "-depth", "-mindepth", "-maxdepth", "-rf", "-r", "-f", "-fr"}
        if deletes and tests <= free:
            self.over(places, "deletes")

    def rsync(self, arguments: list[str]) -> None:
        if any(each.startswith(("--del", "--remove")) for each in arguments):
            self.over(_operands(arguments)[-1:], "deletes all that the source has not below")

    def kill(self, arguments: list[str]) -> None:
        if len(arguments) > 1 and arguments[-1] == "-1":
            self.say("kill … -1 ends every process")

    def change_folder(self, arguments: list[str]) -> None:
        path, unset = self._expanded((_operands(arguments) or ["~"])[0])
        known = not unset and _SOMETHING not in path and path.startswith("/")
        self.cwd = posixpath.normpath(path) if known else None

    def crontab(self, arguments: list[str]) -> None:
        if "-r" in arguments:
            self.say("crontab -r deletes all lines of a user's crontab", destroys=False)


_RULES: Mapping[str, Callable[[_Walk, list[str]], None]] = {
    "rm": _Walk.rm, "chmod": _Walk.chmod, "chown": _Walk.chown, "chgrp": _Walk.chown, "dd": _Walk.dd,
    "cp": _Walk.onto, "mv": _Walk.move, "tee": _Walk.tee, "truncate": _Walk.truncate, "find": _Walk.find,
    "rsync": _Walk.rsync, "kill": _Walk.kill, "cd": _Walk.change_folder, "pushd": _Walk.change_folder,
    "crontab": _Walk.crontab,
    **dict.fromkeys(("mkfs", "wipefs", "blkdiscard", "shred", "mkswap", "sfdisk", "sgdisk"), _Walk.disk),
}  # fmt: skip


def _unwrapped(words: Sequence[str], env: dict[str, str] | None = None) -> Sequence[str]:
    """The words without assignments before them, and without sudo, env, nice and their like; ``env`` learns."""
    words = list(words)
    while words:
        if assigned := _ASSIGNMENT.fullmatch(words[0]):
            if env is not None and "$" not in assigned[2]:
                env[assigned[1]] = MARK.sub(_SOMETHING, assigned[2])
            words.pop(0)
            continue
        wrapper = _WRAPPERS.get(posixpath.basename(words[0]))
        if wrapper is None or len(words) < 2:
            break
        words.pop(0)
        options, skip = wrapper
        while words and words[0].startswith("-"):
            if words.pop(0) in options.split() and words:
                words.pop(0)
        del words[:skip]
    return words


def _reads_program(words: Sequence[str]) -> bool:
    """Whether an interpreter with these arguments runs what comes on its standard input."""
    if not words or posixpath.basename(words[0]) not in _INTERPRETERS:
        return False
    rest = list(words[1:])
    if "-s" in rest or "-" in rest:
        return True
    return all(each.startswith("-") for each in rest) and not any(re.match(r"-\w*[cemnp]", each) for each in rest)


def _operands(arguments: Sequence[str]) -> list[str]:
    return [each for each in arguments if not _is_option(each)]


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1


def _has(arguments: Sequence[str], letters: str, long: str) -> bool:
    return any(
        each == long or (re.fullmatch(r"-\w+", each) and any(letter in each for letter in letters))
        for each in arguments
    )


def _first(pipeline: Sequence[str]) -> str:
    return next(name for name in pipeline if name in _DOWNLOADERS)


def _unmarked(word: str) -> str:
    return MARK.sub("$(…)", word)
