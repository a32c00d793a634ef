-- A report with many rows (of each host, or of each host's jobs): its halves are joined by a hash. IS NOT DISTINCT FROM has none, and
-- went through all failures for each row.

create or replace function public.lsh_fleet_report(
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
        left join failures f on coalesce(f.job, '') = coalesce(t.job, '')
            and coalesce(f.host::text, '') = coalesce(t.host::text, '')
        left join public.hosts h on h.id = t.host
$$;

insert into public.lsh_schema (version) values ('20261122000500');
