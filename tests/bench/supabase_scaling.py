"""How a fleet's ledger in Supabase grows: the figures of packaging/supabase/SCALING.md.

    .venv/bin/python -m tests.bench.supabase_scaling [--rows 20000000] [--sample 2000000] [--seconds 600]

A PostgreSQL of its own, with fsync as in earnest and little memory, is filled in the order of time, as by 10,000 hosts
of 20 jobs, 200 runs a day each. It prints bytes a row, how fast rows come in as the table grows (by SQL, and through
PostgREST as hosts send them), what reports and retention cost, and the same inserts into a table with a partition a
day. Nothing passes or fails. It takes about 600 bytes of disk a row in the temporary folder, and gives them back.
"""

import argparse
import re
import signal
import time
import uuid

from lsh_systemd.remote import Remote, Target
from lsh_systemd.schema import Schema, bundled
from tests.supabase.stack import Stack

A_DAY, CHUNK, BATCH, BATCHES = 2_000_000, 100_000, 500, 40
PARTITIONS, IN_EACH = 50, 20_000
_SETTINGS = """ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on;
ALTER SYSTEM SET shared_buffers = '128MB'; ALTER SYSTEM SET max_wal_size = '2GB'; ALTER SYSTEM SET jit = off;
ALTER SYSTEM SET wal_compression = on; ALTER SYSTEM SET effective_cache_size = '4GB';"""
_FLEET = """INSERT INTO hosts (id, name, tenant)
    SELECT md5('h' || n)::uuid, format('web-%s.example.org', n), 'tenant' || n % 10 FROM generate_series(0, 9999) n;
INSERT INTO jobs (host, id, name, command)
    SELECT md5('h' || n)::uuid, format('job-%s-%s', n / 100, m), 'A job', 'true'
    FROM generate_series(0, 9999) n, generate_series(0, 19) m;"""
_COLUMNS = """host, id, boot_id, started_at, ended_at, trigger_at, received_at, started_monotonic_usec, duration_usec,
    cpu_usec, memory_peak_bytes, io_read_bytes, io_write_bytes, output_bytes, exit_status, pid, job, unit, hostname,
    trigger, result, failure, metrics"""
_NEWEST = "(SELECT max(started_at) FROM runs)"
_HOST = "md5('h77')::uuid"
_QUERIES = {
    "the fleet's newest 20": "SELECT * FROM runs ORDER BY started_at DESC LIMIT 20",
    "a host's newest 20": f"SELECT * FROM runs WHERE host = {_HOST} ORDER BY started_at DESC LIMIT 20",
    "all of a host's, by result": f"SELECT result, count(*) FROM runs WHERE host = {_HOST} GROUP BY 1",
    "the newest 20 of a job of 100 hosts": "SELECT * FROM runs WHERE job = 'job-7-7' ORDER BY started_at DESC LIMIT 20",
    "the newest 20 of a job on a host": f"SELECT * FROM runs WHERE host = {_HOST} AND job = 'job-0-7' "
    "ORDER BY started_at DESC LIMIT 20",
    "the newest 20 failures": "SELECT * FROM runs WHERE result <> 'success' ORDER BY started_at DESC LIMIT 20",
    "what is going on": "SELECT * FROM runs WHERE result IS NULL",
    "a run by its ID": "SELECT * FROM runs WHERE id = (SELECT id FROM runs ORDER BY started_at LIMIT 1)",
    "the last hour, by result (83,000 runs)": "SELECT result, count(*), sum(duration_usec) FROM runs "
    f"WHERE started_at > {_NEWEST} - interval '1 hour' GROUP BY 1",
    "the last day, by result (2,000,000 runs)": "SELECT result, count(*), sum(duration_usec) FROM runs "
    f"WHERE started_at > {_NEWEST} - interval '1 day' GROUP BY 1",
    "`shell_jobs`, newest 20": "SELECT * FROM shell_jobs ORDER BY started_at DESC LIMIT 20",
    '`"cronJobExecution"` of a job, newest 20': 'SELECT * FROM "cronJobExecution" WHERE "cronJobId" = '
    f"(SELECT uid FROM jobs WHERE host = {_HOST} AND id = 'job-0-7') ORDER BY \"startedAt\" DESC LIMIT 20",
}
_AS_TENANT = """SET request.jwt.claims = '{"role": "authenticated", "app_metadata": {"lsh_tenant": "tenant3"}}';
SET ROLE authenticated;"""


def _runs(first: int, count: int) -> str:
    """Runs of the fleet, the n-th at n / 2,000,000 days; of 100, three fail, and ten have numbers to tell."""
    return f"""SELECT md5('h' || h)::uuid, gen_random_uuid(), md5('b' || h)::uuid, at, at + interval '4.2 s', at,
    at + interval '5 s', 86400000000 + n, 4200000 + n % 1000, 1200000 + n % 1000, 12345678, 4096, 8192, 300,
    (n / 7 % 100 < 3)::int, 1000 + n % 30000, format('job-%s-%s', h / 100, n / 10000 % 20),
    format('lsh-job-%s-%s.service', h / 100, n / 10000 % 20), format('web-%s.example.org', h), 'timer',
    CASE WHEN n / 7 % 100 < 3 THEN 'exit-code' ELSE 'success' END,
    CASE WHEN n / 7 % 100 < 3 THEN 'cannot reach # in # s' END,
    CASE WHEN n % 10 = 0 THEN '{{"items_processed": 100, "seconds": 4.2}}' ELSE '{{}}' END::jsonb
    FROM generate_series({first}::bigint, {first + count - 1}) n, LATERAL (SELECT (n * 7919 % 10000)::int AS h,
        timestamptz '2026-01-01' + n * interval '1 day' / {A_DAY} AS at) AS drawn"""


def say(*cells: object) -> None:
    print("| " + " | ".join(str(each) for each in cells) + " |", flush=True)


class Bench:
    """One database that is filled more and more; ``rows``: how many runs it has."""

    def __init__(self, stack: Stack, seconds: float) -> None:
        self.stack, self.rows, self.until = stack, 0, time.monotonic() + seconds
        self.remote = Remote(Target(url=stack.url, key=stack.secret_key))

    def timed(self, text: str) -> float:
        """Seconds."""
        begun = time.monotonic()
        self.stack.sql(text)
        return time.monotonic() - begun

    def fill(self, rows: int) -> None:
        """Add runs in the order of time; tell after each million how fast the last of them came in, and how fast others
        into an empty table at the same time: the machine may have more to do."""
        while self.rows < rows and time.monotonic() < self.until:
            for _ in range(1_000_000 // CHUNK - 2):
                self._add("runs")
            full, empty = 0.0, 0.0
            for _ in range(2):
                self.stack.sql("TRUNCATE empty")
                empty += self._add("empty")
                full += self._add("runs")
            say(f"{self.rows:,}", *(f"{2 * CHUNK / took:,.0f}" for took in (full, empty)), f"{empty / full:.2f}")

    def _add(self, table: str) -> float:
        took = self.timed(f"INSERT INTO {table} ({_COLUMNS}) {_runs(self.rows, CHUNK)}")
        self.rows += CHUNK if table == "runs" else 0
        return took

    def sizes(self) -> None:
        """What a row takes, in the table and in each index."""
        self.stack.sql("VACUUM ANALYZE runs")
        relations = self.stack.sql(
            "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relname = 'runs' OR oid IN "
            "(SELECT indexrelid FROM pg_index WHERE indrelid = 'runs'::regclass) ORDER BY 2 DESC"
        )
        for name, size in (line.split("|") for line in relations.splitlines()):
            say(f"`{name}`", f"{int(size) / 2**20:,.0f}", f"{int(size) / self.rows:.1f}")
        self.stack.sql(
            f"""INSERT INTO run_output (host, run, received_at, output) SELECT host, id, received_at,
            left(repeat(md5(id::text) || E' a line of output\\n', 6), 300) FROM runs
            ORDER BY started_at LIMIT {CHUNK}"""
        )
        size = int(self.stack.sql("SELECT pg_total_relation_size('run_output')"))
        say("`run_output` of 300 bytes, with its indexes", f"{size / 2**20:,.0f}", f"{size / CHUNK:.1f}")

    def over_rest(self) -> None:
        """How fast hosts can send: batches of 500, one after the other, and the same again."""
        hosts = self.stack.sql("SELECT id FROM hosts LIMIT 100").splitlines()
        last = f"SELECT coalesce({_NEWEST}, '2026-01-01')"  # in the order of time, too: see _runs
        usec = int(self.stack.sql(f"SELECT (extract(epoch FROM ({last})) * 1000000)::bigint"))
        batches = [
            [self._run(hosts[(batch * 31 + n) % 100], usec + batch * BATCH + n) for n in range(BATCH)]
            for batch in range(BATCHES)
        ]
        for what in ("new", "sent again"):
            begun = time.monotonic()
            for rows in batches:
                self.remote.upsert("runs", rows, on_conflict="host,id")
            say(f"{self.rows:,}", what, f"{BATCH * BATCHES / (time.monotonic() - begun):,.0f}")
        self.stack.sql("DELETE FROM runs WHERE job = 'sent'")

    def _run(self, host: str, usec: int) -> dict[str, object]:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(usec // 1_000_000)) + f".{usec % 1_000_000:06d}Z"
        return {
            "host": host,
            "id": uuid.uuid4().hex,
            "boot_id": host,
            "started_at": at,
            "ended_at": at,
            "duration_usec": 4_200_000,
            "cpu_usec": 1_200_000,
            "memory_peak_bytes": 12_345_678,
            "output_bytes": 300,
            "exit_status": 0,
            "pid": 4711,
            "job": "sent",
            "unit": "lsh-sent.service",
            "hostname": "web.example.org",
            "trigger": "timer",
            "result": "success",
            "metrics": {"items_processed": 100},
            "io_read_bytes": 4096,
        }

    def queries(self) -> None:
        """What reports cost, with what they read in memory: the second time; and by which index."""
        for who, role in (("the hosts' key", "SET ROLE service_role;"), ("a tenant of ten", _AS_TENANT)):
            for name, query in _QUERIES.items():
                told = self.stack.sql(f"{role}\n{query} \\g /dev/null\nEXPLAIN (ANALYZE, TIMING OFF, BUFFERS) {query}")
                took = next(line for line in told.splitlines() if "Execution Time" in line).split()[2]
                pages = next(line for line in told.splitlines() if "Buffers:" in line).split("Buffers: shared ")[1]
                used = sorted(set(re.findall(r"\b(?:runs|jobs)_[a-z]\w+", told)))
                say(who, name, f"{float(took):,.1f}", pages, ", ".join(f"`{each}`" for each in used))

    def retention(self) -> None:
        """A tenth of a day's runs removed as pg_cron would."""
        removed, begun = 0, time.monotonic()
        for _ in range(4):
            told = self.stack.sql("SELECT lsh_prune(runs_days => 1, output_days => 1, most => 50000) ->> 'runs'")
            removed += int(told)
        say("removed", f"{removed:,}", f"{removed / (time.monotonic() - begun):,.0f}")
        say("VACUUM after it", f"{self.timed('VACUUM runs'):.1f} s", "")

    def brin(self) -> None:
        """The index on time as BRIN: its size, and what the last day costs with it alone."""
        query = next(query for name, query in _QUERIES.items() if name.startswith("the last day"))
        query = query.replace(_NEWEST, f"timestamptz '{self.stack.sql(f'SELECT {_NEWEST}')}'")
        self.stack.sql("CREATE INDEX by_brin ON runs USING brin (started_at)")
        size = int(self.stack.sql("SELECT pg_relation_size('by_brin')"))
        for what, drop in (("B-tree", "DROP INDEX by_brin;"), ("BRIN", "DROP INDEX runs_by_time, runs_unsuccessful;")):
            told = self.stack.sql(
                f"BEGIN; {drop} {query} \\g /dev/null\nEXPLAIN (ANALYZE, TIMING OFF) {query}; ROLLBACK;"
            )
            took = next(line for line in told.splitlines() if "Execution Time" in line).split()[2]
            say(what, f"{float(took):,.0f}", f"{size / 2**10:,.0f} KiB" if what == "BRIN" else "")

    def partitions(self) -> None:
        """The same rows into a table with a partition a day: what many partitions cost an insert."""
        days = "".join(
            f"CREATE TABLE runs_{day} PARTITION OF parts FOR VALUES FROM ({day}) TO ({day + 1});"
            for day in range(PARTITIONS)
        )
        indexes = """ALTER TABLE parts ADD PRIMARY KEY (id, host, day); CREATE INDEX ON parts (started_at);
            CREATE INDEX ON parts (host, started_at); CREATE INDEX ON parts (job, started_at);
            CREATE INDEX ON parts (started_at) WHERE result <> 'success';
            CREATE INDEX ON parts (host) WHERE result IS NULL;"""
        self.stack.sql(
            "CREATE TABLE parts (LIKE runs INCLUDING DEFAULTS, day integer NOT NULL) PARTITION BY RANGE (day);"
            f"{days}{indexes} ALTER TABLE parts ADD FOREIGN KEY (host) REFERENCES hosts;"
        )
        columns = _COLUMNS.replace("\n", " ")
        for day in range(PARTITIONS):
            select = f"SELECT new.*, {day} FROM ({_runs(day * A_DAY, IN_EACH)}) AS new"
            took = self.timed(f"INSERT INTO parts ({columns}, day) {select}")
            if day % 10 == 9:
                self.stack.sql("TRUNCATE empty")
                empty = self.timed(f"INSERT INTO empty ({columns}) {_runs(day * A_DAY, IN_EACH)}")
                say(f"{day + 1}", *(f"{IN_EACH / each:,.0f}" for each in (took, empty)), f"{empty / took:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--sample", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=600, help="stop filling then")
    options = parser.parse_args()
    with Stack() as stack:
        stack.sql(_SETTINGS.replace(";", ";\n"))
        stack.stop("postgres", signal.SIGINT)
        stack.start("postgres")
        list(Schema(stack.db_url).migrate(bundled()))
        stack.stop("postgrest")  # it reads the schema anew when it feels like it
        stack.start("postgrest")
        stack.sql(_FLEET)
        stack.sql(
            "CREATE TABLE empty (LIKE runs INCLUDING ALL); ALTER TABLE empty ADD FOREIGN KEY (host) REFERENCES hosts"
        )
        bench = Bench(stack, options.seconds)
        print("\nthrough PostgREST: runs there, batches, rows/s", flush=True)
        bench.over_rest()
        print("\nby SQL: runs there, rows/s, rows/s into an empty table, ratio")
        bench.fill(options.sample)
        print("\nrelation, MiB, bytes a run")
        bench.sizes()
        print("\nby SQL, on")
        bench.fill(options.rows)
        stack.sql("VACUUM ANALYZE")
        print("\nthrough PostgREST")
        bench.over_rest()
        print(f"\nqueries with {bench.rows:,} runs: who, what, ms, pages, by")
        bench.queries()
        print("\nindex on time: the last day in ms, size")
        bench.brin()
        print("\nretention: runs, a second")
        bench.retention()
        print("\na partition a day: the newest of so many, rows/s, into an empty table, ratio")
        bench.partitions()


if __name__ == "__main__":
    main()
