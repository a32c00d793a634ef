"""The dashboard in a browser (Debian's Chromium) before a machine's jobs: used as people do, and judged by axe-core."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from lsh_systemd.job import job_id
from tests.system.lsh import Lsh
from tests.system.uml import only_on

PORT = 3055
URL = f"http://127.0.0.1:{PORT}"
AXE = Path(__file__).parents[2] / ".cache/npm/node_modules/axe-core/axe.min.js"
EVIL = "<script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def site(lsh: Lsh) -> Iterator[dict[str, str]]:
    """The API listens; keys for some roles, and an admin's for some jobs only."""
    lsh("api", "enable", "--listen", f"127.0.0.1:{PORT}")
    keys = {}
    for role in ("viewer", "admin"):
        keys[role] = lsh("api", "key", "create", f"{role} & <b>", "--role", role, "--json").json()["key"]
    keys["some"] = lsh("api", "key", "create", "some", "--role", "admin", "--jobs", "tag:none", "--json").json()["key"]
    yield keys
    lsh.systemctl("daemon-reload")  # since then, targets hold what they wanted
    lsh("api", "disable")
    lsh("agent", "disable")
    lsh.check_fresh()


@pytest.fixture
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # the machine may be busy
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def visit(browser: Browser, key: str, **options: Any) -> Iterator[Page]:
    """A page of somebody who has logged in. It loads nothing from elsewhere, and nothing that it is not to."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(60_000)
    page, asked, said = context.new_page(), list[str](), list[str]()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 40" not in message.text:
            said.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{URL}/ui/jobs")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{URL}/ui/jobs")
    yield page
    assert [url for url in asked if not url.startswith(URL)] == []
    assert said == []
    context.close()


def check_page(page: Page) -> None:
    """axe-core finds nothing serious, no markup of somebody else's has run, and nothing sticks out."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then((told) => told.violations.map((each) => [each.impact, each.id, each.help]))")
    assert [each for each in found if each[0] in ("serious", "critical")] == [], page.url
    assert page.title() != "evil"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url


@only_on("forky")
@pytest.mark.parametrize("scope", ["system"])
def test_a_job_s_life_in_a_browser(lsh: Lsh, site: dict[str, str], browser: Browser) -> None:
    title, go = f"{lsh.new_name()} {EVIL}", f"/srv/{lsh.new_name()}"
    name = job_id(title)
    badge = ".head .badge"

    def run_now() -> None:
        page.get_by_role("button", name="Run now").click()
        expect(page.locator(".done")).to_have_text("Started.")

    def edit(command: str) -> None:
        page.get_by_role("link", name="Edit").click()
        page.get_by_label("Command").fill(command)
        page.get_by_role("button", name="Change it").click()
        expect(page.locator(".done")).to_have_text("The job is changed.")

    with visit(browser, site["admin"]) as page:
        check_page(page)
        # Made, after a look at what would come of it.
        page.get_by_role("link", name="New job").click()
        page.get_by_label("Name").fill(title)
        page.get_by_label("Schedule", exact=True).fill("61 2 * * *")
        expect(page.locator("#said .problem")).to_be_visible()
        page.get_by_label("Schedule", exact=True).fill("0 2 * * 1-5")
        expect(page.locator("#said")).to_contain_text("At 02:00, Monday to Friday")
        page.get_by_label("Command").fill(f"echo begun; until [ -e {go} ]; do sleep 0.2; done; echo ended")
        for field in ("Description", "Category", "Tags"):
            page.get_by_label(field).fill(EVIL)
        page.get_by_role("button", name="Preview").click()
        expect(page.locator("#outcome")).to_contain_text(f"lsh-{name}.timer")
        check_page(page)
        assert lsh.json("list") == []
        page.get_by_role("button", name="Make it").click()
        expect(page.locator(".done")).to_have_text("The job is made.")
        assert lsh.json("show", name)["definition"]["schedule"] == ["0 2 * * 1-5"]
        expect(page.locator(".week li")).to_have_count(7)
        expect(page.get_by_role("heading", level=1)).to_contain_text(title)
        check_page(page)

        # Watched while it runs; its end is seen without a reload.
        run_now()
        expect(page.locator(badge)).to_have_text("running")
        expect(page.get_by_role("log")).to_contain_text("begun")
        check_page(page)
        page.evaluate("window.stayed = true")
        lsh.machine.run("touch", go)
        expect(page.locator(badge)).to_have_text("waiting")
        expect(page.get_by_role("log")).to_contain_text("ended")
        expect(page.locator("tbody .badge")).to_contain_text("success")
        assert page.evaluate("window.stayed")

        # It fails, and what it writes is text.
        edit(f"echo {shlex.quote(EVIL)}; echo {shlex.quote('message=' + EVIL)} > $LSH_METRICS; exit 3")
        run_now()
        expect(page.locator(badge)).to_have_text("failed")
        page.goto(f"{URL}/ui")
        expect(page.locator("#figures h2")).to_have_count(2)
        check_page(page)
        page.get_by_role("row").filter(has_text=name).get_by_role("link", name="exit-code").click()
        expect(page.get_by_label("Output")).to_have_text(EVIL + "\n")
        run = page.locator("dd code").inner_text()
        page.get_by_text("Log, with what systemd says").click()
        expect(page.get_by_role("log")).to_contain_text(EVIL)
        expect(page.get_by_role("log")).to_contain_text("Failed with result 'exit-code'")
        check_page(page)
        page.goto(f"{URL}/ui/runs?result=failed&job={name}")
        expect(page.locator("tbody tr")).to_have_count(1)
        check_page(page)

        # Mended.
        page.get_by_role("link", name=name).click()
        edit("true")
        run_now()
        expect(page.locator(badge)).to_have_text("waiting")

        for path in ("queue", "fleet", "alerts", "audit", "settings", f"jobs?tag={quote(EVIL)}"):
            page.goto(f"{URL}/ui/{path}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            check_page(page)
        expect(page.locator("tbody tr")).to_have_count(1)

        # A viewer sees the same, and no way to change it; what he sends all the same is refused.
        with visit(browser, site["viewer"], color_scheme="dark", **PHONE) as other:
            check_page(other)
            for path in ("/admin/cron", f"/admin/cron/{name}", "/ui", "/ui/runs"):
                other.goto(URL + path)
                expect(other.get_by_role("main")).to_contain_text(name)
                expect(other.get_by_role("main").get_by_role("button").filter(has_not_text="Show")).to_have_count(0)
                check_page(other)
            token = other.locator("input[name=csrf]").first.get_attribute("value")
            for verb in ("start", "disable", "remove"):
                sent = other.request.post(f"{URL}/ui/jobs/{name}/{verb}", form={"csrf": token or ""})
                assert sent.status == 403 and "needs the role" in sent.text()
            other.goto(f"{URL}/ui/new")
            expect(other.get_by_role("alert")).to_contain_text("this needs the role admin")
            other.get_by_role("button", name="Log out").click()
            other.goto(f"{URL}/ui/jobs")
            expect(other.get_by_label("API key")).to_be_visible()

        # To a key for some jobs the others are not there.
        for path in ("/ui", "/ui/figures", "/ui/jobs", "/ui/runs", "/ui/queue", "/ui/audit", f"/ui/jobs?q={name}"):
            there = page.request.get(URL + path, headers={"X-API-Key": site["some"]})
            assert there.status == 200 and name not in there.text().replace(f"q={name}", "").replace(f'"{name}"', "")
        for path in (f"/ui/jobs/{name}", f"/ui/runs?job={name}", f"/ui/runs/{run}", f"/ui/queue/{name}/leave"):
            assert page.request.get(URL + path, headers={"X-API-Key": site["some"]}).status == 404, path
        for path in ("/ui/settings", "/ui/alerts"):
            assert page.request.get(URL + path, headers={"X-API-Key": site["some"]}).status == 403, path

        # Without a script, by keyboard; and removed only when that is meant.
        with visit(browser, site["admin"], java_script_enabled=False) as plain:
            plain.goto(f"{URL}/ui/jobs/{name}")
            plain.keyboard.press("Tab")
            expect(plain.locator(".skip")).to_be_focused()
            plain.get_by_role("link", name="Disable").press("Enter")
            plain.get_by_role("button", name="Disable").press("Enter")
            expect(plain.locator(badge)).to_have_text("disabled")
            plain.get_by_role("link", name="Remove").click()
            plain.get_by_role("link", name="Leave it").click()
            assert lsh.json("show", name)["enabled"] is False
            plain.get_by_role("link", name="Remove").click()
            plain.get_by_role("button", name="Remove").click()
            expect(plain.locator(".done")).to_contain_text("The job is removed")
        assert lsh.json("list") == []
        page.goto(f"{URL}/ui/jobs/{name}")
        expect(page.get_by_role("main")).to_contain_text("no such job any more")
        check_page(page)


TEMPLATES = """templates:
  greet:
    description: {evil}
    parameters:
      whom: {{description: who is greeted}}
      how: {{type: choice, choices: [loudly, softly], default: softly}}
      times: {{type: integer, min: 1, max: 5, default: 2}}
      polite: {{type: boolean, default: true}}
      words: {{many: true, default: [good, day]}}
    needs: [no-such-program]
    job:
      name: {name} {{{{ whom }}}}
      schedule: 30 8 * * 1-5
      catch_up: once
      env: {{TONE: not-for-viewers}}
      command: echo {{{{ words }}}} {{{{ whom }}}} {{{{ how }}}} {{{{ times }}}} {{{{ polite }}}}
"""


@only_on("forky")
@pytest.mark.parametrize("scope", ["system"])
def test_jobs_from_templates_in_a_browser(lsh: Lsh, site: dict[str, str], browser: Browser) -> None:
    name = lsh.new_name()
    lsh.machine.write("/etc/lsh/templates.d/own.yaml", TEMPLATES.format(name=name, evil=json.dumps(EVIL)))
    with visit(browser, site["admin"], **PHONE) as page:
        page.get_by_role("link", name="From a template").click()
        expect(page.get_by_role("row").filter(has_text="greet")).to_contain_text(EVIL)
        expect(page.get_by_role("row").filter(has_text="greet")).to_contain_text("not here: no-such-program")
        check_page(page)
        page.get_by_role("link", name="greet").click()
        page.get_by_label("times").fill("3")
        check_page(page)

        # What is wrong is told at its field, also without leaving the page.
        whom = page.get_by_label("whom")
        whom.fill("-x")
        page.get_by_role("button", name="Preview").click()
        expect(whom).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#outcome [role=alert]")).to_contain_text("whom may not begin with -")
        expect(page.get_by_label("times")).to_have_value("3")
        check_page(page)
        whom.fill(EVIL)
        page.get_by_role("button", name="Preview").click()
        expect(page.locator("#outcome ol li")).to_have_count(5)
        expect(page.locator("#outcome pre").first).to_contain_text("DynamicUser=yes")
        expect(page.locator("#outcome")).to_contain_text("OnCalendar=Mon..Fri *-*-* 08:30:00")
        expect(whom).not_to_have_attribute("aria-invalid", "true")
        check_page(page)
        assert lsh.json("list") == []

        # Another schedule, for which nothing is made up.
        page.get_by_label("Name").fill(name)
        page.get_by_label("It runs").select_option("every")
        page.get_by_label("Schedule", exact=True).fill("2h")
        page.get_by_text("In the place of the template's own").click()
        page.get_by_label("Timeout").fill("5min")
        page.get_by_role("button", name="Make it").click()
        expect(page.locator(".done")).to_have_text("The job is made.")
        made = lsh.json("show", name)["definition"]
        expected = {"every": "2h", "timeout": "5min", "command": f"echo good day {shlex.quote(EVIL)} softly 3 true"}
        assert {field: made.get(field) for field in (*expected, "catch_up")} == {**expected, "catch_up": None}
        page.get_by_role("button", name="Run now").click()
        expect(page.get_by_role("log")).to_contain_text(f"good day {EVIL} softly 3 true")

        # Without a script, by keyboard: the whole page comes back.
        with visit(browser, site["admin"], java_script_enabled=False) as plain:
            plain.goto(f"{URL}/ui/templates/greet")
            plain.get_by_label("whom").fill("you")
            plain.get_by_label("whom").press("Tab")
            expect(plain.get_by_label("how")).to_be_focused()
            plain.get_by_role("button", name="Preview").press("Enter")
            expect(plain.locator("#outcome ol li")).to_have_count(5)
            expect(plain.get_by_label("whom")).to_have_value("you")

        # A viewer sees what there is, not what it gives to jobs, and makes none.
        with visit(browser, site["viewer"], color_scheme="dark") as other:
            other.goto(f"{URL}/ui/templates/greet")
            expect(other.get_by_role("main")).to_contain_text("who is greeted")
            expect(other.get_by_role("main")).to_contain_text("TONE=")
            assert "not-for-viewers" not in other.content()
            expect(other.get_by_role("main").get_by_role("button")).to_have_count(0)
            check_page(other)
            token = other.locator("input[name=csrf]").first.get_attribute("value") or ""
            form: dict[str, Any] = {"csrf": token, "set_whom": "x", "kind": "template"}
            for path in ("greet", "greet/preview"):
                assert other.request.post(f"{URL}/ui/templates/{path}", form=form).status == 403

    # What the administrator does not allow is not offered, and not done.
    key = {"X-API-Key": site["admin"]}
    lsh.machine.write("/etc/lsh/lsh.toml", '[api]\ntemplates = ["log-*"]\ncommands = false\n')
    with visit(browser, site["admin"]) as page:
        for path in ("greet", "log-cleanup"):
            page.goto(f"{URL}/ui/templates/{path}")
            allowed = path == "log-cleanup"
            expect(page.get_by_role("button", name="Make it")).to_have_count(1 if allowed else 0)
            sent = page.request.post(f"{URL}/templates/{path}/jobs", headers=key, data={"values": {}, "name": path})
            assert sent.status == (201 if allowed else 403), sent.text()
        for path, body in {
            "templates/log-cleanup/jobs": {"name": "other", "command": "id"},
            "jobs": {"name": "other", "command": "id"},
        }.items():
            sent = page.request.post(f"{URL}/{path}", headers=key, data=body)
            assert sent.status == 403 and "commands" in sent.json()["hint"]
        for change, status in (({"command": "id"}, 403), ({"timeout": "1h"}, 200)):
            sent = page.request.patch(f"{URL}/jobs/{name}", headers=key | {"If-Match": "*"}, data=change)
            assert sent.status == status, sent.text()
    lsh.machine.run("rm", "/etc/lsh/lsh.toml", "/etc/lsh/templates.d/own.yaml")
