"""What doctor tells of a host and its fleet, without a network."""

from tests.system.lsh import Lsh


def test_doctor_knows_what_a_fleet_would_never_notice(lsh: Lsh) -> None:
    home, run = {"system": ("/etc/lsh", "/run"), "user": ("/home/bob/.config/lsh", "/run/user/1000")}[lsh.scope]

    def shell(script: str) -> None:
        lsh.machine.run("sh", "-c", script, user=lsh.user)

    def told() -> dict[str, str | None]:
        """Of the fleet: what is amiss → what to do."""
        found = [each for each in lsh("doctor", "--json", check=False).json() if each["check"] == "fleet"]
        assert found
        return {each["message"]: each["fix"] for each in found if each["level"] != "ok"}

    def only(words: str, fix: str) -> None:
        ((message, do),) = told().items()
        assert words in message and fix in (do or ""), (message, do)

    heard = f"{run}/lsh/fleet/heard"
    join = f"lshctl --{lsh.scope} fleet join"
    try:
        assert told() == {}
        each = lsh.add("--calendar", "*:*:0/2", "--once-in-fleet", "--disabled", "--", "true")
        alone = lsh.add("--calendar", "*-*-01", "--once-in-fleet", "--fleet-unreachable", "run", "--", "true")
        assert told().keys() == {f"no Supabase project is set: {alone} run on each host"}
        shell(f"mkdir -p {home}; echo '[supabase]\nurl = \"http://127.0.0.1:9\"' >{home}/lsh.toml")
        shell(f"umask 077; echo sb_secret_x >{home}/supabase.key")
        assert told() == {}
        lsh("remove", alone)
        # A claim that got no answer.
        lsh("enable", each)
        lsh.ended(each, timeout=40)
        only(f"{each} had no run at the last time: Supabase could not be asked: ", "supabase test")
        lsh("remove", each)
        # The queue.
        offered = lsh.add("--from-fleet", "--", "true")
        only(f"offers {offered} to the fleet and has not joined", join)
        lsh("fleet", "join", "--poll", "2h")
        shell(f"mkdir -p {run}/lsh/fleet; cut -d' ' -f1 /proc/uptime >{heard}")
        assert told() == {}
        shell(f"echo -900000 >{heard}")
        only("the fleet was last heard of 9", "-u lsh-fleet.service")
        lsh.systemctl("stop", "lsh-fleet.timer")
        only("lsh-fleet.timer is inactive", join)
        shell(f"echo '[fleet]\nslots = 0' >>{home}/lsh.toml")
        assert any("leaves no slots" in message for message in told())
        lsh("remove", offered)
        assert any("offers it no job" in message for message in told())
        shell(f"chmod 644 {home}/supabase.key")
        only("no runs of the fleet's queue are made here", "chmod 600")
    finally:
        lsh("fleet", "leave", check=False)
        shell(f"rm -f {heard} {home}/supabase.key {home}/lsh.toml")
