"""nginx as packaging/proxy has it, with TLS, before a machine's API: what people, browsers and lshctl do through it."""

import http.client
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.system.lsh import Lsh
from tests.system.machine import eventually
from tests.system.roots import PROJECT
from tests.system.uml import only_on

API, TLS, PLAIN = 3057, 3457, 3458
URL = f"https://localhost:{TLS}"
EXAMPLE = (PROJECT / "packaging/proxy/nginx.conf").read_text()
# The lines of a deployment check that older systems were tried with.
CHECK = """
curl -f "$LSH_URL/health" || { echo "Health check failed"; exit 1; }
curl -f "$LSH_URL/status" || { echo "Status check failed"; exit 1; }
curl -f "$LSH_URL/jobs" || { echo "Jobs endpoint failed"; exit 1; }
"""


def adapted(folder: Path) -> str:
    """The example, on ports that need no root and with a certificate of the test's own."""
    text = EXAMPLE
    for pattern, replacement in (
        (r"127\.0\.0\.1:3030", f"127.0.0.1:{API}"),
        (r".*listen \[::\].*\n", ""),
        (r"listen 80;", f"listen 127.0.0.1:{PLAIN};"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{TLS} ssl;"),
        (r"server_name jobs\.example\.org;", "server_name localhost;"),
        (r"https://\$host", f"https://$host:{TLS}"),
        (r"/etc/letsencrypt/live/jobs\.example\.org/(\w+)\.pem", rf"{folder}/\1.pem"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in "client_body proxy fastcgi uwsgi scgi".split())
    return f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
        events {{}} http {{ access_log off; {paths} {text} }}"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    options = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split()
    files = ("-keyout", f"{tmp_path}/privkey.pem", "-out", f"{tmp_path}/fullchain.pem")
    command = ("openssl", "req", "-x509", *options, "-addext", "subjectAltName=DNS:localhost", *files)
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "fullchain.pem"


@pytest.fixture
def nginx(tmp_path: Path, certificate: Path) -> Iterator[None]:
    (tmp_path / "nginx.conf").write_text(adapted(tmp_path))
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "nginx is missing: make setup"
    server = subprocess.Popen([program, "-e", f"{tmp_path}/nginx.log", "-p", f"{tmp_path}", "-c", "nginx.conf"])

    def answers() -> bool:
        assert server.poll() is None, (tmp_path / "nginx.log").read_text()
        try:
            http.client.HTTPConnection("127.0.0.1", PLAIN, timeout=5).request("GET", "/")
        except OSError:
            return False
        return True

    try:
        eventually(answers)
        yield
    finally:
        server.terminate()
        server.wait()


@only_on("forky")
@pytest.mark.parametrize("scope", ["system"])
def test_the_api_behind_a_proxy_with_tls(lsh: Lsh, nginx: None, certificate: Path) -> None:
    (setting,) = re.findall(r"^# +(\[api\])\n# +(.+)$", EXAMPLE, re.MULTILINE)
    lsh.machine.write("/etc/lsh/lsh.toml", "\n".join(setting) + "\n")
    lsh.machine.write("/srv/ca.pem", certificate.read_text())
    lsh("api", "enable", "--listen", f"127.0.0.1:{API}")
    job = lsh.add("--schedule", "0 2 * * *", "--", "echo through; sleep 0.2")
    key = lsh("api", "key", "create", "proxied", "--role", "admin", "--json").json()["key"]

    def curl(*argv: str) -> str:
        return lsh.machine.run("curl", "--silent", "--cacert", "/srv/ca.pem", *argv).stdout

    try:
        # lshctl by HTTPS: a certificate that nobody knows is refused, before the key is said.
        argv = ("lshctl", "--url", URL, "list", "--json")
        refused = lsh.machine.run(*argv, env={"LSH_API_KEY": key}, check=False)
        assert refused.returncode == 1 and "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        known = {"LSH_API_KEY": key, "SSL_CERT_FILE": "/srv/ca.pem"}
        assert [each["id"] for each in lsh.machine.run(*argv, env=known).json()] == [job]
        add = ("lshctl", "--url", URL, "add", "spare", "--template", "disk-space", "--set")
        assert "percent" in lsh.machine.run(*add, "percent=101", env=known, check=False).stderr
        lsh.machine.run(*add, "percent=99", "--schedule", "5 4 * * *", env=known)
        made = lsh.json("show", "spare")["definition"]
        assert made["schedule"] == ["5 4 * * *"] and "99" in made["command"] and made["dynamic_user"] is True
        assert "percent=85" in lsh.machine.run("lshctl", "--url", URL, "templates", env=known).stdout
        lsh("remove", "spare")
        # From http to https, and what the API says is passed on.
        assert f"Location: {URL}/jobs?x=1" in curl("--include", f"http://localhost:{PLAIN}/jobs?x=1").replace("\r", "")
        head = curl("--include", f"{URL}/jobs").replace("\r", "")
        assert "401" in head.partition("\n")[0] and "Strict-Transport-Security:" in head
        check = f"LSH_URL=https://:{key}@localhost:{TLS}\n{CHECK}"
        lsh.machine.run("bash", "-c", check, env={"CURL_CA_BUNDLE": "/srv/ca.pem"})
        assert curl("--header", "X-Forwarded-For: 203.0.113.9", "--header", "X-API-Key: wrong", f"{URL}/jobs")

        # Events come as they happen, through a connection that stays open.
        tls = ssl.create_default_context(cafile=str(certificate))
        listener = http.client.HTTPSConnection("localhost", TLS, context=tls, timeout=60)
        listener.request("GET", f"/events?job={job}", headers={"X-API-Key": key})
        stream = listener.getresponse()
        assert stream.status == 200 and stream.getheader("Content-Type", "").startswith("text/event-stream")
        lsh.machine.run("lshctl", "--url", URL, "start", job, env=known)
        kinds = []
        while "finished" not in kinds:
            line = stream.readline().decode()
            assert line, "the stream has ended"
            kinds += [line.removeprefix("event: ").strip()] if line.startswith("event: ") else []
        assert kinds[-2:] == ["started", "finished"]
        listener.close()

        # A browser's session is for TLS alone; its forms come from this site, and its pages are live.
        expect.set_options(timeout=60_000)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            context = chromium.new_context(ignore_https_errors=True)
            page = context.new_page()
            page.goto(f"{URL}/ui/jobs/{job}")
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Log in").click()
            expect(page).to_have_url(f"{URL}/ui/jobs/{job}")
            (cookie,) = context.cookies()
            assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
            page.get_by_role("button", name="Run now").click()
            expect(page.get_by_role("log")).to_contain_text("through")
            page.evaluate("window.stayed = true")
            lsh.machine.run("lshctl", "--url", URL, "disable", job, env=known)
            expect(page.locator(".head .badge")).to_have_text("disabled")
            assert page.evaluate("window.stayed")
            chromium.close()
        # Who calls is nginx's word, not the caller's.
        log = lsh.machine.run("journalctl", "--unit=lsh-api.service", "--output=cat").stdout
        assert re.search(r"127\.0\.0\.1 proxied \w+ GET /jobs 200", log) and "203.0.113.9" not in log
    finally:
        lsh("api", "disable")
        lsh("agent", "disable")
        lsh.machine.run("rm", "/etc/lsh/lsh.toml")
