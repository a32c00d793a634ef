-- A fleet that shares its work. PostgreSQL is what decides: who may make the one run of a scheduled time (fleet_claims), and
-- who makes a run that somebody has put into the queue (queued_runs). Both hand out fencing tokens from one sequence: each
-- is larger than all before it of the same job, so that what a run writes to can refuse a run that has been taken for dead.

create sequence public.lsh_fencing;
comment on sequence public.lsh_fencing is 'The fencing tokens of claims and of queued runs';

create table public.fleet_claims (
    tenant     text not null,
    scope      text not null,
    job        text not null,
    instant    timestamptz not null,
    host       uuid references public.hosts on delete set null,
    claimant   uuid not null,
    token      bigint not null,
    claimed_at timestamptz not null default clock_timestamp(),
    primary key (tenant, scope, job, instant),
    unique (token)
);
create index fleet_claims_by_host on public.fleet_claims (host);
create index fleet_claims_by_time on public.fleet_claims (claimed_at);
comment on table public.fleet_claims is 'Which host makes the run of a --once-in-fleet job for a scheduled time: the first to have asked, and nobody after it';
comment on column public.fleet_claims.tenant is 'The fleet';
comment on column public.fleet_claims.scope is 'Whose job it is: "system", or "user:NAME"';
comment on column public.fleet_claims.job is 'The job''s id';
comment on column public.fleet_claims.instant is 'The scheduled time';
comment on column public.fleet_claims.host is 'The host that makes the run';
comment on column public.fleet_claims.claimant is 'What on that host has asked: one that asks again, as it got no answer, is told the same';
comment on column public.fleet_claims.token is 'The fencing token: LSH_FENCING_TOKEN of the run';
comment on column public.fleet_claims.claimed_at is 'When it was claimed';

create table public.queued_runs (
    id           bigint generated always as identity primary key,
    nonce        uuid not null unique,
    tenant       text not null default 'default',
    scope        text not null default 'system',
    job          text not null,
    params       jsonb not null default '{}' check (jsonb_typeof(params) = 'object'),
    user_name    text not null default '',
    priority     integer not null default 5 check (priority between 0 and 10),
    run_at       timestamptz not null default now(),
    only_host    text,
    tags         text[] not null default '{}',
    key          text,
    retries      integer not null default 0 check (retries between 0 and 100),
    state        text not null default 'queued'
                 check (state in ('queued', 'running', 'succeeded', 'failed', 'lost', 'cancelled')),
    attempt      integer not null default 0,
    created_at   timestamptz not null default now(),
    created_by   text,
    cancelled_at timestamptz,
    cancelled_by text,
    host         uuid references public.hosts on delete set null,
    token        bigint unique,
    claimed_at   timestamptz,
    lease_until  timestamptz,
    ended_at     timestamptz,
    run          uuid,
    result       text,
    exit_status  integer,
    message      text,
    unique (tenant, key)
);
create index queued_runs_waiting on public.queued_runs (tenant, scope, user_name, priority desc, run_at, id) where state = 'queued';
create index queued_runs_due on public.queued_runs (tenant, scope, job, run_at) where state = 'queued';
create index queued_runs_running on public.queued_runs (tenant, user_name) where state = 'running';
create index queued_runs_leases on public.queued_runs (lease_until) where state = 'running';
create index queued_runs_by_host on public.queued_runs (host);
create index queued_runs_ended on public.queued_runs (ended_at);
comment on table public.queued_runs is 'Runs that somebody wants: some host that offers the job makes each';
comment on column public.queued_runs.id is 'Its number';
comment on column public.queued_runs.nonce is 'Chosen by who adds it: adding again what got no answer adds nothing';
comment on column public.queued_runs.tenant is 'The fleet';
comment on column public.queued_runs.scope is 'Whose job it is: "system", or "user:NAME"';
comment on column public.queued_runs.job is 'The id of a job that hosts offer (--from-fleet)';
comment on column public.queued_runs.params is 'Its parameters, name → text; the host checks them against the job''s declaration';
comment on column public.queued_runs.user_name is 'For whom: the limit of each user counts by this';
comment on column public.queued_runs.priority is 'From 0 to 10, the highest first';
comment on column public.queued_runs.run_at is 'Not before this time; after a failure, when it is tried again';
comment on column public.queued_runs.only_host is 'The name or id of the only host that may make it; NULL: any';
comment on column public.queued_runs.tags is 'Only hosts that have all of these';
comment on column public.queued_runs.key is 'Of two with the same key the second is not added; NULL: no such check';
comment on column public.queued_runs.retries is 'How often it is tried again after it has failed or was lost';
comment on column public.queued_runs.state is 'queued, running, succeeded, failed, lost (its host died, or was cut off, in mid-run) or cancelled';
comment on column public.queued_runs.attempt is 'How often a host has taken it';
comment on column public.queued_runs.created_at is 'When it was added';
comment on column public.queued_runs.created_by is 'By whom';
comment on column public.queued_runs.cancelled_at is 'When somebody wanted it no more';
comment on column public.queued_runs.cancelled_by is 'Who';
comment on column public.queued_runs.host is 'The host that has, or had, it last';
comment on column public.queued_runs.token is 'The fencing token of the newest attempt: LSH_FENCING_TOKEN of the run';
comment on column public.queued_runs.claimed_at is 'When the host took it';
comment on column public.queued_runs.lease_until is 'Until when the host has it, unless it is heard of before';
comment on column public.queued_runs.ended_at is 'When it came to its end';
comment on column public.queued_runs.run is 'The run''s id in the table runs';
comment on column public.queued_runs.result is 'The newest attempt''s result in systemd''s words; refused: the host does not take these parameters; skipped: the job''s condition was not met; neither is tried again';
comment on column public.queued_runs.exit_status is 'The exit status of its command';
comment on column public.queued_runs.message is 'What it said of itself, or why it could not be made';

create table public.queued_attempts (
    queued_run bigint not null references public.queued_runs on delete cascade,
    token      bigint not null primary key,
    host       uuid references public.hosts on delete set null,
    claimed_at timestamptz not null,
    ended_at   timestamptz,
    run        uuid,
    result     text
);
create index queued_attempts_by_run on public.queued_attempts (queued_run);
create index queued_attempts_by_host on public.queued_attempts (host);
comment on table public.queued_attempts is 'Each time that a host has taken a queued run';
comment on column public.queued_attempts.queued_run is 'The queued run';
comment on column public.queued_attempts.token is 'The attempt''s fencing token';
comment on column public.queued_attempts.host is 'The host that took it';
comment on column public.queued_attempts.claimed_at is 'When';
comment on column public.queued_attempts.ended_at is 'When the host told its end, or was taken for dead';
comment on column public.queued_attempts.run is 'The run''s id in the table runs';
comment on column public.queued_attempts.result is 'Its result; lost: its host died, or was cut off; released: the host gave it back unbegun';

alter table public.fleet_claims enable row level security;
alter table public.queued_runs enable row level security;
alter table public.queued_attempts enable row level security;
create policy lsh_tenant_reads on public.fleet_claims for select to authenticated using (tenant = (select public.lsh_tenant()));
create policy lsh_tenant_reads on public.queued_runs for select to authenticated using (tenant = (select public.lsh_tenant()));
create policy lsh_tenant_reads on public.queued_attempts for select to authenticated
    using (queued_run in (select id from public.queued_runs));
revoke all on public.fleet_claims, public.queued_runs, public.queued_attempts from public, anon, authenticated, service_role;
revoke all on sequence public.lsh_fencing from public, anon, authenticated, service_role;
grant select on public.fleet_claims, public.queued_runs, public.queued_attempts to authenticated;
grant select, insert, update, delete on public.fleet_claims, public.queued_runs, public.queued_attempts to service_role;
grant usage on sequence public.lsh_fencing to service_role;

-- Whoever asks for work is there.
create function public.lsh_fleet_seen(p_host uuid, p_name text) returns text language plpgsql set search_path = '' as $$
declare
    its_tenant text;
begin
    insert into public.hosts as h (id, name) values (p_host, p_name)
    on conflict (id) do update set last_seen_at = now() where h.last_seen_at < now() - interval '10 seconds';
    select tenant into its_tenant from public.hosts where id = p_host;
    return its_tenant;
end $$;
comment on function public.lsh_fleet_seen is 'Notes that the host is there; its tenant';

create function public.lsh_fleet_claim(
    p_host uuid, p_name text, p_scope text, p_job text, p_instant timestamptz, p_claimant uuid
) returns jsonb language plpgsql set search_path = '' as $$
declare
    fleet constant text := public.lsh_fleet_seen(p_host, p_name);
    claim public.fleet_claims;
begin
    if p_instant > clock_timestamp() + interval '1 minute' then
        return jsonb_build_object('won', false, 'reason', 'this host''s clock is ahead of the database''s by more than a minute');
    elsif p_instant < clock_timestamp() - interval '60 days' then  -- whose claim may have been pruned
        return jsonb_build_object('won', false, 'reason', 'the scheduled time is more than 60 days ago');
    end if;
    -- One at a time for each job: tokens are then granted in their order.
    perform pg_advisory_xact_lock(hashtextextended(format('lsh-claim/%s/%s/%s', fleet, p_scope, p_job), 0));
    insert into public.fleet_claims (tenant, scope, job, instant, host, claimant, token)
    values (fleet, p_scope, p_job, p_instant, p_host, p_claimant, nextval('public.lsh_fencing'))
    on conflict (tenant, scope, job, instant) do nothing returning * into claim;
    if claim.token is null then
        select * into claim from public.fleet_claims
        where tenant = fleet and scope = p_scope and job = p_job and instant = p_instant;
    end if;
    if claim.host = p_host and claim.claimant = p_claimant then
        return jsonb_build_object('won', true, 'token', claim.token);
    end if;
    return jsonb_build_object('won', false, 'reason',
        format('%s makes the run of %s', (select name from public.hosts where id = claim.host),
               to_char(p_instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')));
end $$;
comment on function public.lsh_fleet_claim is
    'Asks for the one run of a scheduled time: {"won": true, "token": …} for the first, {"won": false, "reason": …} for all others';

create function public.lsh_queue_limits(p_tenant text) returns table (total integer, per_user integer)
language sql stable set search_path = '' as $$
    select (s.value ->> 'global')::integer, case when s.value ? 'user' then (s.value ->> 'user')::integer else 2 end
    from (select 1) as one
    left join public.settings as s on s.tenant = p_tenant and s.key = 'fleet.queue'
$$;
comment on function public.lsh_queue_limits is
    'How many queued runs may go on at once: in all, and of each user (2 where nobody has said); NULL: any number. Kept in settings as fleet.queue: {"global": N, "user": N}';

create function public.lsh_queue_set_limits(p_limits jsonb, p_by text, p_tenant text default 'default') returns jsonb
language sql set search_path = '' as $$
    insert into public.settings as s (tenant, key, value, description, updated_by)
    values (p_tenant, 'fleet.queue', p_limits, 'How many queued runs may go on at once', p_by)
    on conflict (tenant, key) do update set value = s.value || excluded.value, updated_at = now(), updated_by = p_by
    returning value
$$;
comment on function public.lsh_queue_set_limits is 'Sets one or both of {"global": N, "user": N}; null lifts a limit';

create function public.lsh_queue_add(
    p_nonce uuid, p_job text, p_scope text default 'system', p_params jsonb default '{}', p_user text default '',
    p_priority integer default 5, p_run_at timestamptz default null, p_host text default null, p_tags text[] default '{}',
    p_retries integer default 0, p_key text default null, p_by text default null, p_tenant text default 'default'
) returns jsonb language plpgsql set search_path = '' as $$
declare
    added public.queued_runs;
begin
    insert into public.queued_runs (nonce, tenant, scope, job, params, user_name, priority, run_at, only_host, tags, retries, key,
                                    created_by)
    values (p_nonce, p_tenant, p_scope, p_job, p_params, p_user, p_priority, coalesce(p_run_at, now()), p_host, p_tags, p_retries,
            p_key, p_by)
    on conflict do nothing returning * into added;
    if added.id is not null then
        return jsonb_build_object('id', added.id, 'added', true);
    end if;
    select * into added from public.queued_runs where nonce = p_nonce or (tenant = p_tenant and key = p_key) limit 1;
    return jsonb_build_object('id', added.id, 'added', added.nonce = p_nonce);
end $$;
comment on function public.lsh_queue_add is
    'Puts a run into the queue: {"id": …, "added": true}; "added" is false, and the id the other''s, where there is one with this key';

create function public.lsh_queue_cancel(p_id bigint, p_by text default null) returns text
language plpgsql set search_path = '' as $$
declare
    its_state text;
begin
    update public.queued_runs set cancelled_at = coalesce(cancelled_at, clock_timestamp()), cancelled_by = coalesce(cancelled_by, p_by),
        state = case state when 'queued' then 'cancelled' else state end,
        ended_at = case state when 'queued' then clock_timestamp() end
    where id = p_id and state in ('queued', 'running') returning case state when 'running' then 'cancelling' else state end into its_state;
    if its_state is null then
        select state into its_state from public.queued_runs where id = p_id;
    end if;
    return its_state;
end $$;
comment on function public.lsh_queue_cancel is
    'Takes a run out of the queue, or has its host end it: cancelled, cancelling, or the state that it has ended in; NULL: there is none';

-- An attempt has ended: with it the queued run, unless it is to be tried again.
create function public.lsh_queue_end(
    p_token bigint, p_result text, p_run uuid, p_exit_status integer, p_message text
) returns void language plpgsql set search_path = '' as $$
declare
    ended constant timestamptz := clock_timestamp();
begin
    update public.queued_attempts set ended_at = ended, result = p_result, run = p_run where token = p_token;
    update public.queued_runs set
        run = p_run, result = p_result, exit_status = p_exit_status, message = p_message, lease_until = null,
        state = case
            when p_result = 'success' then 'succeeded'
            when cancelled_at is not null then 'cancelled'
            when p_result = 'released' or (p_result not in ('refused', 'skipped') and attempt <= retries) then 'queued'
            when p_result = 'lost' then 'lost'
            else 'failed'
        end,
        attempt = attempt - case when p_result = 'released' then 1 else 0 end
    where token = p_token and state = 'running';
    if found then
        update public.queued_runs set
            ended_at = case when state <> 'queued' then ended end,
            -- tried again after 1, 2, 4 … 256 s
            run_at = case
                when state <> 'queued' then run_at
                when p_result = 'released' then ended + interval '1 second'
                else ended + interval '1 second' * 2 ^ least(attempt - 1, 8)
            end
        where token = p_token;
    end if;
end $$;
comment on function public.lsh_queue_end is 'Writes the end of an attempt; of no use to a host: see lsh_queue_step';

create function public.lsh_queue_take(
    p_host uuid, p_name text, p_tenant text, p_scope text, p_slots integer, p_offers jsonb, p_tags text[], p_lease interval
) returns setof public.queued_runs language plpgsql set search_path = '' as $$
declare
    most integer;
    each_user integer;
    present timestamptz;
    jobs constant text[] := array(select jsonb_object_keys(p_offers));
begin
    -- What is counted below must not change until what is taken is written: one host at a time takes.
    perform pg_advisory_xact_lock(hashtextextended('lsh-queue/' || p_tenant, 0));
    present := clock_timestamp();
    select total, per_user into most, each_user from public.lsh_queue_limits(p_tenant);
    most := least(p_slots, most - (select count(*) from public.queued_runs where tenant = p_tenant and state = 'running'));
    return query
    with recursive users (user_name) as (
        -- each user once, by the index: there may be many rows of each
        (select q.user_name from public.queued_runs as q
         where q.tenant = p_tenant and q.scope = p_scope and q.state = 'queued' order by q.user_name limit 1)
        union all
        select (select q.user_name from public.queued_runs as q
                where q.tenant = p_tenant and q.scope = p_scope and q.state = 'queued' and q.user_name > users.user_name
                order by q.user_name limit 1)
        from users where users.user_name is not null
    ), open_users as (
        select users.user_name, least(most, each_user - (
            select count(*) from public.queued_runs as r
            where r.tenant = p_tenant and r.user_name = users.user_name and r.state = 'running')) as room
        from users where users.user_name is not null
    ), candidates as (
        select next.* from open_users cross join lateral (
            select q.id, q.job, q.priority, q.run_at from public.queued_runs as q
            where q.tenant = p_tenant and q.scope = p_scope and q.user_name = open_users.user_name and q.state = 'queued'
                and q.run_at <= present and q.job = any (jobs) and q.tags <@ p_tags
                and (q.only_host is null or q.only_host in (p_name, p_host::text))
            order by q.priority desc, q.run_at, q.id
            limit greatest(open_users.room, 0)
            for update skip locked
        ) as next
    ), in_turn as (
        select c.*, row_number() over (partition by c.job order by c.priority desc, c.run_at, c.id) as place from candidates as c
    ), chosen as (
        select t.id from in_turn as t where t.place <= (p_offers ->> t.job)::integer
        order by t.priority desc, t.run_at, t.id limit greatest(most, 0)
    )
    update public.queued_runs as q set
        state = 'running', attempt = q.attempt + 1, host = p_host, token = nextval('public.lsh_fencing'),
        claimed_at = clock_timestamp(), lease_until = clock_timestamp() + p_lease, run = null, result = null, exit_status = null,
        message = null
    from chosen where q.id = chosen.id returning q.*;
end $$;
comment on function public.lsh_queue_take is 'Gives the host queued runs, as the limits allow; of no use to a host: see lsh_queue_step';

create function public.lsh_queue_step(
    p_host uuid, p_name text, p_scope text, p_slots integer, p_offers jsonb, p_tags text[] default '{}',
    p_running bigint[] default '{}', p_ended jsonb default '[]', p_lease_seconds double precision default 60
) returns jsonb language plpgsql set search_path = '' as $$
declare
    fleet constant text := public.lsh_fleet_seen(p_host, p_name);
    lease constant interval := make_interval(secs => p_lease_seconds);
    present constant timestamptz := clock_timestamp();
    offered constant text[] := array(select jsonb_object_keys(p_offers));
    ended bigint[];
    taken bigint[] := '{}';
    held bigint[];
    answer jsonb;
begin
    -- An attempt that has been given to somebody else since tells nothing any more.
    perform public.lsh_queue_end(q.token, e.result, e.run, e.exit_status, e.message)
    from jsonb_to_recordset(p_ended) as e (token bigint, result text, run uuid, exit_status integer, message text)
    join public.queued_runs as q on q.token = e.token and q.host = p_host and q.state = 'running';
    ended := array(select (each ->> 'token')::bigint from jsonb_array_elements(p_ended) as each);

    with renewed as (
        update public.queued_runs set lease_until = present + lease
        where host = p_host and scope = p_scope and state = 'running' and not token = any (ended) returning token
    )
    select coalesce(array_agg(token), '{}') into held from renewed where token = any (p_running);

    -- Whoever is not heard of in time has died, or is cut off.
    perform public.lsh_queue_end(dead.token, 'lost', null, null, null) from (
        select token from public.queued_runs
        where state = 'running' and lease_until < present and tenant = fleet for update skip locked
    ) as dead;

    -- (asked without a lock: most often nothing waits for this host)
    if p_slots > 0 and exists (
        select from public.queued_runs
        where tenant = fleet and scope = p_scope and job = any (offered) and state = 'queued' and run_at <= present
    ) then
        taken := array(select token from public.lsh_queue_take(
            p_host, p_name, fleet, p_scope, p_slots, p_offers, p_tags, lease));
    elsif random() < 0.001 then
        perform public.lsh_fleet_prune();
    end if;

    -- What it holds and does not tell of it has never been told that it has: an answer was lost.
    select jsonb_build_object(
        'run', coalesce(jsonb_agg(jsonb_build_object(
            'id', q.id, 'token', q.token, 'job', q.job, 'params', q.params, 'user', q.user_name, 'attempt', q.attempt,
            'created_by', q.created_by, 'created_at', q.created_at
        ) order by q.priority desc, q.run_at, q.id) filter (where not q.token = any (held)), '[]'),
        'cancel', coalesce(jsonb_agg(q.token) filter (where q.token = any (held) and q.cancelled_at is not null), '[]'),
        'gone', to_jsonb(array(select unnest(p_running) except select unnest(held)))
    ) into answer
    from public.queued_runs as q
    where q.host = p_host and q.scope = p_scope and q.state = 'running' and not q.token = any (ended);
    insert into public.queued_attempts (queued_run, token, host, claimed_at)
    select id, token, host, claimed_at from public.queued_runs where token = any (taken);
    return answer;
end $$;
comment on function public.lsh_queue_step is
    'All that a host has to say and to hear: "p_ended" are attempts that have ended, "p_running" the tokens of those that go on and keep their lease with this, "p_offers" job → how many more of it the host can run. The answer: "run" are attempts to make, "cancel" tokens of runs to end, "gone" tokens that the host has no longer';

create function public.lsh_fleet_prune(p_days integer default 90) returns bigint language plpgsql set search_path = '' as $$
declare
    before constant timestamptz := now() - make_interval(days => greatest(p_days, 61));
    claims bigint;
    runs bigint;
begin
    delete from public.fleet_claims where claimed_at < before;
    get diagnostics claims = row_count;
    delete from public.queued_runs where ended_at < before;
    get diagnostics runs = row_count;
    return claims + runs;
end $$;
comment on function public.lsh_fleet_prune is
    'Removes claims and queued runs that ended so many days ago (61 at least, as a time of 60 days ago can still be claimed); how many';

do $$
declare
    each record;
begin
    for each in select p.oid::regprocedure as signature from pg_catalog.pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.proname in ('lsh_fleet_seen', 'lsh_fleet_claim', 'lsh_fleet_prune') or p.proname like 'lsh\_queue\_%')
    loop
        execute format('revoke all on function %s from public, anon, authenticated, service_role', each.signature);
        execute format('grant execute on function %s to service_role', each.signature);
    end loop;
end $$;

insert into public.lsh_schema (version) values ('20261122000300');
notify pgrst, 'reload schema';
