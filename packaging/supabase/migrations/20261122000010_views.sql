-- The ledger under the names and columns that dashboards of lsh's daemon, of the cron job service and of the cron processor
-- ask for. They are read-only. Where the project has a table or view of such a name already, that one stays, and ours is left out.
--
-- All are security_invoker: whoever asks sees the rows that the tables would show.

-- What all of them make of a run: a status in one of two vocabularies, and what went wrong.
create function public.lsh_outcome(result text) returns text language sql immutable set search_path = '' as $$
    select case when result is null then 'running' when result = 'success' then 'completed' when result = 'skipped' then 'cancelled'
        when result = 'timeout' then 'timeout' else 'failed' end
$$;
comment on function public.lsh_outcome(text) is 'A run''s result as running, completed, failed, timeout or cancelled (skipped)';
create function public.lsh_whole(value numeric) returns integer language sql immutable set search_path = '' as $$
    select least(greatest(floor(value), -2147483648), 2147483647)::integer
$$;
comment on function public.lsh_whole(numeric) is 'The number as an integer, the nearest that there is';
revoke all on function public.lsh_outcome(text), public.lsh_whole(numeric) from public, anon, authenticated, service_role;
grant execute on function public.lsh_outcome(text), public.lsh_whole(numeric) to authenticated, service_role;

do $lsh$
declare
    ours record;
    named record;
begin
    for ours in select * from (values
        ('shell_jobs', 'Runs, as lsh''s daemon listed them', $view$
            select r.id, r.triggered_by as user_id, r.boot_id::text as session_id, r.job as job_id, j.command,
                case public.lsh_outcome(r.result) when 'timeout' then 'failed' when 'cancelled' then 'stopped'
                    else public.lsh_outcome(r.result) end as status,
                j.definition ->> 'working_dir' as working_directory, r.started_at, r.ended_at as completed_at,
                r.exit_status as exit_code, o.output,
                case when r.result not in ('success', 'skipped') then coalesce(r.reason, r.message, r.failure, r.result) end as error
            from public.runs r
                left join public.jobs j on j.host = r.host and j.scope = r.scope and j.id = r.job
                left join public.run_output o on o.host = r.host and o.run = r.id $view$,
            '{"id": "The run''s id", "user_id": "Who started it by hand; NULL: nobody", "session_id": "The boot of its host: see shell_sessions",
              "job_id": "The job''s id", "command": "The job''s command as it is now", "status": "running, completed, failed or stopped (skipped)",
              "working_directory": "The job''s working directory", "started_at": "When it began", "completed_at": "When it ended",
              "exit_code": "The exit status", "output": "What it wrote", "error": "What went wrong"}'::jsonb),
        ('shell_sessions', 'Hosts, each in its present boot, as lsh''s daemon listed sessions', $view$
            select h.id, h.boot_id::text as session_id, h.name as hostname, '/'::text as working_directory,
                '{}'::jsonb as environment_variables, coalesce(h.booted_at, h.first_seen_at) as started_at,
                case when h.last_seen_at < now() - 3 * h.heartbeat_seconds * interval '1 second' then h.last_seen_at end as ended_at,
                h.last_seen_at >= now() - 3 * h.heartbeat_seconds * interval '1 second' as is_active
            from public.hosts h $view$,
            '{"id": "The host''s id", "session_id": "The boot", "hostname": "The host''s name", "working_directory": "Always /",
              "environment_variables": "Always empty: jobs have no shell''s variables", "started_at": "When the boot began",
              "ended_at": "The last heartbeat of a host that is away", "is_active": "Whether one of its last three heartbeats came"}'::jsonb),
        ('cronJob', 'Jobs, as the cron job service defined them; changing one is done on its host', $view$
            select j.uid as id, j.name, j.description, coalesce(j.schedule, '') as schedule, j.enabled as "isEnabled",
                public.lsh_whole(coalesce(j.timeout_usec, 0) / 1000.0) as "timeoutMs", j.retries as "maxRetries",
                j.created_at as "createdAt", j.updated_at as "updatedAt", coalesce(j.created_by, 'system') as "createdBy",
                coalesce(j.modified_by, 'system') as "lastModifiedBy"
            from public.jobs j where j.removed_at is null $view$,
            '{"id": "jobs.uid", "name": "Its name; hosts may have jobs of the same name", "description": "What it is for",
              "schedule": "What starts it; empty: only a hand", "isEnabled": "Whether its schedule counts", "timeoutMs": "How long a run may take; 0: any time",
              "maxRetries": "How often a failed run is tried again", "createdAt": "When it was made", "updatedAt": "When it was last changed",
              "createdBy": "Who made it", "lastModifiedBy": "Who changed it last"}'::jsonb),
        ('cronJobExecution', 'Runs of the jobs of cronJob, as the cron job service kept them', $view$
            select r.id, j.uid as "cronJobId", r.started_at as "startedAt", r.ended_at as "completedAt",
                public.lsh_whole(r.duration_usec / 1000.0) as "durationMs", public.lsh_outcome(r.result) as status,
                r.exit_status as "exitCode", o.output,
                case when r.result not in ('success', 'skipped') then coalesce(r.reason, r.message, r.failure, r.result) end as "errorMessage",
                null::text as "stackTrace",
                case when r.trigger is null or r.trigger = 'timer' then 'scheduler' else r.trigger end as "triggeredBy",
                r.triggered_by as "triggeredByUserId", r.attempt - 1 as "retryCount",
                public.lsh_whole(r.memory_peak_bytes / 1048576.0) as "memoryUsageMb",
                public.lsh_whole(100.0 * r.cpu_usec / nullif(r.duration_usec, 0)) as "cpuUsagePercent"
            from public.runs r
                join public.jobs j on j.host = r.host and j.scope = r.scope and j.id = r.job
                left join public.run_output o on o.host = r.host and o.run = r.id $view$,
            '{"id": "The run''s id", "cronJobId": "cronJob.id", "startedAt": "When it began", "completedAt": "When it ended",
              "durationMs": "How long it took", "status": "running, completed, failed, timeout or cancelled (skipped)", "exitCode": "The exit status",
              "output": "What it wrote", "errorMessage": "What went wrong", "stackTrace": "Always NULL: it is in the output",
              "triggeredBy": "scheduler, manual, api, retry, queue, catch-up, path or hook", "triggeredByUserId": "Who started it by hand",
              "retryCount": "0 for the first attempt", "memoryUsageMb": "The most memory it had, in MiB",
              "cpuUsagePercent": "CPU time by time; 100 is one CPU"}'::jsonb),
        ('cronJobConfig', 'The settings, as the cron job service kept them', $view$
            select md5(s.tenant || '/' || s.key)::uuid as id, s.key, s.value #>> '{}' as value, s.description,
                s.created_at as "createdAt", s.updated_at as "updatedAt"
            from public.settings s $view$,
            '{"id": "One ID for tenant and key", "key": "The setting''s name", "value": "Its value", "description": "What it is for",
              "createdAt": "When it was first set", "updatedAt": "When it was last set"}'::jsonb),
        ('puppet_job_execution_logs', 'Runs, as the cron processor logged them', $view$
            select r.id, j.uid as job_id, null::uuid as batch_id, r.host::text as executor_id, r.started_at as start_time,
                r.ended_at as end_time, public.lsh_whole(r.duration_usec / 1000.0) as duration_ms,
                case when r.result is null then 'started' else public.lsh_outcome(r.result) end as outcome,
                case when r.result not in ('success', 'skipped') then coalesce(r.reason, r.message, r.failure, r.result) end as error_message,
                case when r.result not in ('success', 'skipped') then r.result end as error_type,
                public.lsh_whole(r.memory_peak_bytes / 1048576.0) as memory_usage_mb,
                public.lsh_whole(r.cpu_usec / 1000.0) as cpu_time_ms, r.metrics as execution_context,
                r.received_at as created_at, coalesce(r.ended_at, r.received_at) as updated_at
            from public.runs r
                left join public.jobs j on j.host = r.host and j.scope = r.scope and j.id = r.job $view$,
            '{"id": "The run''s id", "job_id": "jobs.uid", "batch_id": "Always NULL: systemd starts each by itself", "executor_id": "The host''s id",
              "start_time": "When it began", "end_time": "When it ended", "duration_ms": "How long it took",
              "outcome": "started, completed, failed, timeout or cancelled (skipped)", "error_message": "What went wrong",
              "error_type": "The result where it is no success", "memory_usage_mb": "The most memory it had, in MiB",
              "cpu_time_ms": "How much CPU time it used", "execution_context": "The numbers that the run gave", "created_at": "When it was first sent",
              "updated_at": "When it ended, or was first sent"}'::jsonb),
        ('puppet_cron_processor_state', 'Hosts, as cron processors told of themselves', $view$
            select h.id, h.id::text as processor_id, h.name as hostname, h.agent_pid as process_id,
                h.last_seen_at >= now() - 3 * h.heartbeat_seconds * interval '1 second' as is_active, h.last_seen_at as last_heartbeat,
                lately.at as last_batch_at, 1 as last_batch_size, h.max_running as max_concurrent_jobs, 1 as batch_size,
                0 as timeout_seconds, lately.runs::integer as total_jobs_processed, lately.runs::integer as total_batches_processed,
                lately.rate as success_rate_percent, h.first_seen_at as created_at, h.last_seen_at as updated_at
            from public.hosts h left join lateral (
                select count(*) as runs, max(r.started_at) as at,
                    coalesce(round(100.0 * count(*) filter (where r.result = 'success') / nullif(count(r.result), 0), 2), 0)::numeric(5, 2) as rate
                from public.runs r
                where r.host = h.id and r.started_at >= now() - interval '1 day' and r.result is distinct from 'skipped'
            ) lately on true $view$,
            '{"id": "The host''s id", "processor_id": "The host''s id", "hostname": "The host''s name", "process_id": "Of its agent",
              "is_active": "Whether one of its last three heartbeats came", "last_heartbeat": "The last one", "last_batch_at": "When its newest run of the last 24 hours began",
              "last_batch_size": "Always 1: systemd starts each by itself", "max_concurrent_jobs": "How many may run at once; NULL: any number",
              "batch_size": "Always 1", "timeout_seconds": "Always 0: each job has its own", "total_jobs_processed": "Runs of the last 24 hours",
              "total_batches_processed": "The same", "success_rate_percent": "How many of those that have ended succeeded",
              "created_at": "Its first heartbeat", "updated_at": "Its last heartbeat"}'::jsonb)
    ) as views (name, about, query, columns) loop
        if to_regclass(format('public.%I', ours.name)) is not null then
            raise notice 'public.% is there already and is left as it is', ours.name;
            continue;
        end if;
        execute format('create view public.%I with (security_invoker = true) as %s', ours.name, ours.query);
        execute format('comment on view public.%I is %L', ours.name, ours.about);
        for named in select * from jsonb_each_text(ours.columns) loop
            execute format('comment on column public.%I.%I is %L', ours.name, named.key, named.value);
        end loop;
        execute format('revoke all on public.%I from public, anon, authenticated, service_role', ours.name);
        execute format('grant select on public.%I to authenticated, service_role', ours.name);
    end loop;
end
$lsh$;

insert into public.lsh_schema (version) values ('20261122000010');
