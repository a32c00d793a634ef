-- The ledger of a fleet: what its hosts are, what jobs they have, and every run of these.
--
-- Who may do what: anon nothing; authenticated reads what belongs to its tenant, which stands in the token's
-- app_metadata.lsh_tenant (no user can change that); service_role, the key of the hosts, reads and writes all.
-- Nothing relies on default privileges: what a role needs is granted, and what older projects grant by default is revoked.

-- The tenant that whoever asks belongs to.
create function public.lsh_tenant() returns text language sql stable set search_path = '' as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'lsh_tenant'
$$;
comment on function public.lsh_tenant() is
    'The tenant of the caller: app_metadata.lsh_tenant of the JWT; NULL where there is none, and then no row is visible';
revoke all on function public.lsh_tenant() from public, anon, authenticated, service_role;
grant execute on function public.lsh_tenant() to authenticated, service_role;

-- Which of these migrations have been applied; each adds itself.
create table public.lsh_schema (
    version    text primary key,
    applied_at timestamptz not null default now()
);
comment on table public.lsh_schema is 'The migrations of lsh-systemd that have been applied here';
comment on column public.lsh_schema.version is 'The number that the migration''s file name begins with';
comment on column public.lsh_schema.applied_at is 'When it was applied';

create table public.hosts (
    id                uuid primary key,
    tenant            text not null default 'default',
    name              text not null,
    lsh_version       text,
    systemd_version   text,
    os                text,
    kernel            text,
    architecture      text,
    timezone          text,
    cpus              integer,
    memory_bytes      bigint,
    boot_id           uuid,
    booted_at         timestamptz,
    agent_pid         integer,
    max_running       integer,
    heartbeat_seconds integer not null default 60,
    waiting_rows      bigint not null default 0,
    labels            jsonb not null default '{}',
    first_seen_at     timestamptz not null default now(),
    last_seen_at      timestamptz not null default now()
);
create index hosts_by_name on public.hosts (name);
create index hosts_by_tenant on public.hosts (tenant);
comment on table public.hosts is 'The machines; each writes its own row with every heartbeat';
comment on column public.hosts.id is 'The machine''s ID as lsh-systemd tells it: derived from /etc/machine-id, which stays secret';
comment on column public.hosts.tenant is 'To whom the host and all that it reports belongs: authenticated users with this app_metadata.lsh_tenant see it';
comment on column public.hosts.name is 'Its host name at the last heartbeat';
comment on column public.hosts.lsh_version is 'The version of lsh-systemd';
comment on column public.hosts.systemd_version is 'The version of systemd';
comment on column public.hosts.os is 'PRETTY_NAME of /etc/os-release';
comment on column public.hosts.kernel is 'The kernel''s release';
comment on column public.hosts.architecture is 'The machine''s kind, as x86_64';
comment on column public.hosts.timezone is 'Its time zone, as Europe/Berlin';
comment on column public.hosts.cpus is 'How many CPUs it has';
comment on column public.hosts.memory_bytes is 'How much memory it has';
comment on column public.hosts.boot_id is 'The boot it is in';
comment on column public.hosts.booted_at is 'When that began';
comment on column public.hosts.agent_pid is 'The process ID of its agent';
comment on column public.hosts.max_running is 'How many jobs may run on it at once; NULL: any number';
comment on column public.hosts.heartbeat_seconds is 'How often it means to report';
comment on column public.hosts.waiting_rows is 'How many rows it had not sent yet at the last heartbeat';
comment on column public.hosts.labels is 'Anything else worth telling: name → text';
comment on column public.hosts.first_seen_at is 'Its first heartbeat, by the clock of the database';
comment on column public.hosts.last_seen_at is 'Its last heartbeat; hosts send "now", which the database reads by its own clock';

create table public.jobs (
    host         uuid not null references public.hosts on delete cascade,
    scope        text not null default 'system',
    id           text not null,
    uid          uuid not null generated always as (md5(host::text || '/' || scope || '/' || id)::uuid) stored,
    name         text not null,
    description  text not null default '',
    command      text not null,
    schedule     text,
    timezone     text,
    enabled      boolean not null default true,
    state        text,
    next_at      timestamptz,
    category     text not null default '',
    tags         text[] not null default '{}',
    priority     integer not null default 5,
    timeout_usec bigint,
    retries      integer not null default 0,
    definition   jsonb not null default '{}',
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    created_by   text,
    modified_by  text,
    removed_at   timestamptz,
    primary key (host, scope, id),
    unique (uid)
);
create index jobs_by_id on public.jobs (id);
comment on table public.jobs is 'The jobs as they are defined on their hosts: a mirror, changing a row changes no job';
comment on column public.jobs.host is 'The host that has the job';
comment on column public.jobs.scope is 'Whose job it is: "system", or "user:NAME"';
comment on column public.jobs.id is 'The slug of its name, as in lshctl show ID';
comment on column public.jobs.uid is 'One ID for host, scope and id together';
comment on column public.jobs.name is 'Its name';
comment on column public.jobs.description is 'What it is for';
comment on column public.jobs.command is 'The command line';
comment on column public.jobs.schedule is 'What starts it, as it was given; NULL: only a hand';
comment on column public.jobs.timezone is 'The time zone of its schedule; NULL: the host''s';
comment on column public.jobs.enabled is 'Whether its schedule counts';
comment on column public.jobs.state is 'As in lshctl list: running, stuck, failed, retrying, waiting, elapsed, disabled, stopped, manual, invalid';
comment on column public.jobs.next_at is 'When it is due next';
comment on column public.jobs.category is 'Its category';
comment on column public.jobs.tags is 'Its tags';
comment on column public.jobs.priority is 'From 0 to 10; 5 is neutral';
comment on column public.jobs.timeout_usec is 'How long a run may take, in µs; NULL: any time';
comment on column public.jobs.retries is 'How often a failed run is tried again';
comment on column public.jobs.definition is 'The whole definition, as lshctl show --json has it; values of variables and standard input are masked';
comment on column public.jobs.created_at is 'When it was made';
comment on column public.jobs.updated_at is 'When it was last changed';
comment on column public.jobs.created_by is 'Who made it';
comment on column public.jobs.modified_by is 'Who changed it last';
comment on column public.jobs.removed_at is 'When it was removed from its host; its row stays for the sake of its runs';

-- The wide columns come last, so that rows are packed densely. Rows come in about in the order of time, so that the
-- pages of a day lie together: what is asked of a stretch of time reads few pages, and what retention removes frees whole
-- ones. The key is host and run, in the order in which it also finds a run by its ID alone.
create table public.runs (
    host                   uuid not null references public.hosts on delete cascade,
    id                     uuid not null,
    boot_id                uuid,
    first_id               uuid,
    started_at             timestamptz,
    ended_at               timestamptz,
    due_at                 timestamptz,
    trigger_at             timestamptz,
    received_at            timestamptz not null default now(),
    started_monotonic_usec bigint,
    duration_usec          bigint,
    cpu_usec               bigint,
    memory_peak_bytes      bigint,
    io_read_bytes          bigint,
    io_write_bytes         bigint,
    output_bytes           bigint not null default 0,
    attempt                integer not null default 1,
    exit_status            integer,
    pid                    integer,
    scope                  text not null default 'system',
    job                    text not null,
    unit                   text not null,
    hostname               text not null default '',
    trigger                text,
    triggered_by           text,
    result                 text,
    reason                 text,
    signal                 text,
    message                text,
    progress               text,
    failure                text,
    metrics                jsonb not null default '{}',
    primary key (id, host)
);
-- Ascending, as rows come in: by time alone, a descending index is twice as large, as it leaves half of each page empty.
create index runs_by_time on public.runs (started_at);
create index runs_by_host on public.runs (host, started_at);
create index runs_by_job on public.runs (job, started_at);
create index runs_unsuccessful on public.runs (started_at) where result <> 'success';
create index runs_open on public.runs (host) where result is null;
create index runs_without_start on public.runs (received_at) where started_at is null;
comment on table public.runs is 'Every run of every job; what it wrote is in run_output';
comment on column public.runs.host is 'The host that it ran on';
comment on column public.runs.id is 'systemd''s invocation ID; host and id are the key under which a run is sent again';
comment on column public.runs.boot_id is 'The boot that it ran in';
comment on column public.runs.first_id is 'Of a retry, the run that was the first attempt';
comment on column public.runs.started_at is 'When it began, by the host''s clock';
comment on column public.runs.ended_at is 'When it ended';
comment on column public.runs.due_at is 'The scheduled time that it makes up for, or since when it waited in the queue';
comment on column public.runs.trigger_at is 'When its timer elapsed';
comment on column public.runs.received_at is 'When it was first sent, by the clock of the database';
comment on column public.runs.started_monotonic_usec is 'When it began, in µs since boot';
comment on column public.runs.duration_usec is 'How long it took, in µs';
comment on column public.runs.cpu_usec is 'How much CPU time it used, in µs';
comment on column public.runs.memory_peak_bytes is 'The most memory it had';
comment on column public.runs.io_read_bytes is 'How much it read from disks';
comment on column public.runs.io_write_bytes is 'How much it wrote to disks';
comment on column public.runs.output_bytes is 'How much it wrote to its output, whether or not that was kept';
comment on column public.runs.attempt is 'The first is 1';
comment on column public.runs.exit_status is 'The exit status of its main process';
comment on column public.runs.pid is 'The process that left its record';
comment on column public.runs.scope is 'Whose job it is: "system", or "user:NAME"';
comment on column public.runs.job is 'The job''s id; the job may be gone';
comment on column public.runs.unit is 'The systemd unit';
comment on column public.runs.hostname is 'The host''s name as it was then';
comment on column public.runs.trigger is 'What started it: timer, manual, retry, queue, catch-up, path, hook or api';
comment on column public.runs.triggered_by is 'Who started it by hand, or over HTTP';
comment on column public.runs.result is 'success; systemd''s word on what went wrong (exit-code, signal, timeout, oom-kill and others); skipped, missed or lost; NULL while it goes on';
comment on column public.runs.reason is 'Why it was skipped or missed';
comment on column public.runs.signal is 'The signal that ended it';
comment on column public.runs.message is 'What it said of itself';
comment on column public.runs.progress is 'How far it said to have come, as 40/100';
comment on column public.runs.failure is 'Of a failed run, what it last said with numbers and ids masked: what is the same is one kind of failure';
comment on column public.runs.metrics is 'The numbers that it gave: name → number';

create table public.run_output (
    host        uuid not null,
    run         uuid not null,
    received_at timestamptz not null default now(),
    output      text not null,
    primary key (run, host),
    foreign key (run, host) references public.runs (id, host) on delete cascade
);
create index run_output_by_time on public.run_output (received_at);
comment on table public.run_output is 'What runs wrote, apart from them, so that it can be kept for less long; its row comes after the run''s';
comment on column public.run_output.host is 'The host that the run was on';
comment on column public.run_output.run is 'The run''s id';
comment on column public.run_output.received_at is 'When it was first sent, by the clock of the database';
comment on column public.run_output.output is 'Standard output and errors as UTF-8, U+FFFD for what was none (and for NUL); of more than the host keeps, head and tail';

create table public.alerts (
    host       uuid not null references public.hosts on delete cascade,
    id         uuid not null,
    scope      text not null default 'system',
    rule       text not null,
    target     integer not null,
    event      text not null,
    job        text,
    run        uuid,
    created_at timestamptz not null,
    title      text not null,
    body       text not null,
    state      text not null,
    done_at    timestamptz,
    error      text,
    primary key (host, id)
);
create index alerts_by_time on public.alerts (created_at);
comment on table public.alerts is 'What hosts told of, to whom, and what became of it';
comment on column public.alerts.host is 'The host that told it';
comment on column public.alerts.id is 'The host''s own ID for it';
comment on column public.alerts.scope is 'Whose rule it was: "system", or "user:NAME"';
comment on column public.alerts.rule is 'The rule';
comment on column public.alerts.target is 'Which of the rule''s URLs, from 0 on';
comment on column public.alerts.event is 'failure, timeout, oom, lost, missed or recovery; of a digest, digest';
comment on column public.alerts.job is 'The job; NULL: of several, a digest';
comment on column public.alerts.run is 'The run that it was about';
comment on column public.alerts.created_at is 'When there was something to be told';
comment on column public.alerts.title is 'Its title';
comment on column public.alerts.body is 'Its text';
comment on column public.alerts.state is 'waiting, sent, muted or given-up';
comment on column public.alerts.done_at is 'When it left the state waiting';
comment on column public.alerts.error is 'Why it could not be sent';

create table public.audit (
    host       uuid not null references public.hosts on delete cascade,
    id         uuid not null,
    scope      text not null default 'system',
    at         timestamptz not null,
    job        text,
    before     text,
    verb       text not null,
    actor      text not null,
    uid        bigint not null,
    via        text not null,
    difference jsonb not null default '{}',
    primary key (host, id)
);
create index audit_by_time on public.audit (at);
create index audit_by_job on public.audit (job, at);
comment on table public.audit is 'Who changed which job on which host when, and how';
comment on column public.audit.host is 'The host';
comment on column public.audit.id is 'The change''s own ID';
comment on column public.audit.scope is 'Whose job it was: "system", or "user:NAME"';
comment on column public.audit.at is 'When';
comment on column public.audit.job is 'The job''s id; NULL: no job''s';
comment on column public.audit.before is 'Of a renamed job, the id that it had';
comment on column public.audit.verb is 'What was done: add, set, remove and others';
comment on column public.audit.actor is 'Who did it';
comment on column public.audit.uid is 'The user ID of who did it';
comment on column public.audit.via is 'By which door: cli, api';
comment on column public.audit.difference is 'Option → [old, new]; values that may be secret are masked';

create table public.settings (
    tenant      text not null default 'default',
    key         text not null,
    value       jsonb not null,
    description text,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    updated_by  text,
    primary key (tenant, key)
);
comment on table public.settings is 'Settings that hold for all hosts of a tenant';
comment on column public.settings.tenant is 'Whose setting it is';
comment on column public.settings.key is 'Its name';
comment on column public.settings.value is 'Its value';
comment on column public.settings.description is 'What it is for';
comment on column public.settings.created_at is 'When it was first set';
comment on column public.settings.updated_at is 'When it was last set';
comment on column public.settings.updated_by is 'Who set it last';

alter table public.lsh_schema enable row level security;
alter table public.hosts enable row level security;
alter table public.jobs enable row level security;
alter table public.runs enable row level security;
alter table public.run_output enable row level security;
alter table public.alerts enable row level security;
alter table public.audit enable row level security;
alter table public.settings enable row level security;

create policy lsh_all_read on public.lsh_schema for select to authenticated using (true);
create policy lsh_tenant_reads on public.hosts for select to authenticated using (tenant = (select public.lsh_tenant()));
create policy lsh_tenant_reads on public.settings for select to authenticated using (tenant = (select public.lsh_tenant()));
-- Of hosts, the reader sees only those of the tenant: whatever belongs to a host follows it.
create policy lsh_tenant_reads on public.jobs for select to authenticated using (host in (select id from public.hosts));
create policy lsh_tenant_reads on public.runs for select to authenticated using (host in (select id from public.hosts));
create policy lsh_tenant_reads on public.run_output for select to authenticated using (host in (select id from public.hosts));
create policy lsh_tenant_reads on public.alerts for select to authenticated using (host in (select id from public.hosts));
create policy lsh_tenant_reads on public.audit for select to authenticated using (host in (select id from public.hosts));

revoke all on public.lsh_schema, public.hosts, public.jobs, public.runs, public.run_output, public.alerts, public.audit,
    public.settings from public, anon, authenticated, service_role;
grant select on public.lsh_schema, public.hosts, public.jobs, public.runs, public.run_output, public.alerts, public.audit,
    public.settings to authenticated;
grant select, insert, update, delete on public.hosts, public.jobs, public.runs, public.run_output, public.alerts,
    public.audit, public.settings to service_role;
grant select on public.lsh_schema to service_role;

create function public.lsh_schema_version() returns text language sql stable set search_path = '' as $$
    select max(version) from public.lsh_schema
$$;
comment on function public.lsh_schema_version() is 'The newest migration of lsh-systemd that has been applied here';
revoke all on function public.lsh_schema_version() from public, anon, authenticated, service_role;
grant execute on function public.lsh_schema_version() to authenticated, service_role;

insert into public.lsh_schema (version) values ('20261122000000');
