-- What hosts need to report, and what reports over all of them are made of.

-- As long as it has no figures of a table, the planner takes the newest of the indexes that seem to cost the same. That must be
-- the key: each row of run_output asks for its run, and going through all runs of its host would make a first report ever slower.
alter table public.run_output drop constraint run_output_run_host_fkey;
alter table public.runs drop constraint runs_pkey, add primary key (id, host);
alter table public.run_output add foreign key (run, host) references public.runs (id, host) on delete cascade;

-- A request that its sender has given up may still come in, after a newer one.
create function public.lsh_keep_ended_run() returns trigger language plpgsql set search_path = '' as $$
begin
    return null;
end
$$;
comment on function public.lsh_keep_ended_run() is 'A run that has ended is not made one that goes on';
revoke all on function public.lsh_keep_ended_run() from public, anon, authenticated, service_role;
create trigger lsh_keep_ended_run before update on public.runs for each row
    when (old.result is not null and new.result is null) execute function public.lsh_keep_ended_run();

create function public.lsh_jobs_removed(on_host uuid, of_scope text, ids text[]) returns void
language sql set search_path = '' as $$
    update public.jobs set removed_at = now(), enabled = false, next_at = null, updated_at = now()
    where host = on_host and scope = of_scope and id = any (ids) and removed_at is null
$$;
comment on function public.lsh_jobs_removed(uuid, text, text[]) is 'Marks jobs that are no longer on their host';
revoke all on function public.lsh_jobs_removed(uuid, text, text[]) from public, anon, authenticated, service_role;
grant execute on function public.lsh_jobs_removed(uuid, text, text[]) to service_role;

-- The same figures, of the same runs, as a host's own `lshctl report --json` has. One value, as PostgREST would cut rows.
create function public.lsh_fleet_report(
    grouped text default 'job', of_hosts uuid[] default null, of_jobs text[] default null,
    since timestamptz default null, until timestamptz default null
) returns jsonb language sql stable set search_path = '' as $$
    with ended as (
        select case when grouped in ('job', 'both') then r.job end as job, case when grouped in ('host', 'both') then r.host end as host,
            r.result, r.attempt, r.duration_usec, r.cpu_usec, r.memory_peak_bytes, r.result <> 'skipped' as counted,
            case when r.result not in ('skipped', 'missed') then r.started_at end as began_at,
            case when r.result not in ('skipped', 'missed') and r.due_at <= r.started_at
                then extract(epoch from r.started_at - r.due_at) end as wait
        from public.runs r
        where r.result is not null and r.started_at >= coalesce(since, '-infinity') and r.started_at < coalesce(until, 'infinity')
            and (of_hosts is null or r.host = any (of_hosts)) and (of_jobs is null or r.job = any (of_jobs))
    ), failures as (
        select job, host, jsonb_object_agg(result, runs) as by_result
        from (select job, host, result, count(*) as runs from ended where result not in ('success', 'skipped') group by 1, 2, 3) as each
        group by 1, 2
    ), told as (
        select job, host, count(*) as runs, count(*) filter (where result = 'success') as successes,
            count(*) filter (where not counted) as skipped, count(*) filter (where attempt > 1 and counted) as retries,
            percentile_disc(array[0.5, 0.95, 0.99]) within group (order by duration_usec) filter (where counted) as percentiles,
            sum(duration_usec) filter (where counted) as duration_sum, count(duration_usec) filter (where counted) as durations,
            max(duration_usec) filter (where counted) as duration_max, sum(cpu_usec) filter (where counted) as cpu_sum,
            count(cpu_usec) filter (where counted) as cpus, max(memory_peak_bytes) filter (where counted) as memory_max,
            avg(wait) as wait_mean, max(wait) as wait_max, min(began_at) as first_at, max(began_at) as last_at
        from ended group by job, host
    )
    select coalesce(jsonb_agg(jsonb_build_object(
        'job', t.job, 'host', h.name, 'host_id', t.host, 'runs', t.runs, 'successes', t.successes, 'skipped', t.skipped,
        'retries', t.retries, 'success_rate', t.successes::float8 / nullif(t.runs - t.skipped, 0),
        'duration_p50', t.percentiles[1] / 1e6::float8, 'duration_p95', t.percentiles[2] / 1e6::float8,
        'duration_p99', t.percentiles[3] / 1e6::float8, 'duration_mean', t.duration_sum::float8 / nullif(t.durations, 0) / 1e6,
        'duration_max', t.duration_max / 1e6::float8, 'cpu_seconds_mean', t.cpu_sum::float8 / nullif(t.cpus, 0) / 1e6,
        'cpu_seconds_sum', t.cpu_sum::float8 / 1e6, 'memory_peak_max', t.memory_max,
        'wait_mean', t.wait_mean::float8, 'wait_max', t.wait_max::float8,
        'first_run', to_char(t.first_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'last_run', to_char(t.last_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'failures_by_result', coalesce(f.by_result, '{}')
    ) order by t.job, h.name, t.host), '[]')
    from told t
        left join failures f on f.job is not distinct from t.job and f.host is not distinct from t.host
        left join public.hosts h on h.id = t.host
$$;
comment on function public.lsh_fleet_report(text, uuid[], text[], timestamptz, timestamptz) is
    'What the ended runs of a time come to: of each job, each host, both, or all together (grouped: job, host, both, all)';
revoke all on function public.lsh_fleet_report(text, uuid[], text[], timestamptz, timestamptz)
    from public, anon, authenticated, service_role;
grant execute on function public.lsh_fleet_report(text, uuid[], text[], timestamptz, timestamptz) to authenticated, service_role;

insert into public.lsh_schema (version) values ('20261122000200');
