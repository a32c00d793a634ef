-- What keeps the ledger from growing for ever, and what tells a host whether it may write.

create function public.lsh_prune(
    runs_days integer default 90, output_days integer default 30, audit_days integer default 730, most integer default 10000
) returns jsonb language plpgsql set search_path = '' as $$
declare
    runs bigint;
    without_start bigint;
    outputs bigint;
    alerts bigint;
    changes bigint;
begin
    if runs_days < 1 or output_days < 1 or audit_days < 1 or most < 1 then
        raise exception 'lsh_prune: days and most are 1 or more' using errcode = 'invalid_parameter_value';
    end if;
    delete from public.run_output where ctid = any (array(
        select ctid from public.run_output where received_at < now() - output_days * interval '1 day' order by received_at limit most));
    get diagnostics outputs = row_count;
    delete from public.runs where ctid = any (array(
        select ctid from public.runs
        where started_at < now() - runs_days * interval '1 day' order by started_at limit most));
    get diagnostics runs = row_count;
    delete from public.runs where ctid = any (array(
        select ctid from public.runs
        where started_at is null and received_at < now() - runs_days * interval '1 day' limit most));
    get diagnostics without_start = row_count;
    delete from public.alerts where ctid = any (array(
        select ctid from public.alerts where created_at < now() - runs_days * interval '1 day' order by created_at limit most));
    get diagnostics alerts = row_count;
    delete from public.audit where ctid = any (array(
        select ctid from public.audit where at < now() - audit_days * interval '1 day' order by at limit most));
    get diagnostics changes = row_count;
    return jsonb_build_object(
        'runs', runs + without_start, 'outputs', outputs, 'alerts', alerts, 'audit', changes,
        'more', greatest(runs, without_start, outputs, alerts, changes) = most);
end
$$;
comment on function public.lsh_prune(integer, integer, integer, integer) is
    'Removes what is older than so many days: runs (and alerts), output, audit. At most so many rows of each, so that a call stays short: '
    'where the answer has "more", call again';
revoke all on function public.lsh_prune(integer, integer, integer, integer) from public, anon, authenticated, service_role;
grant execute on function public.lsh_prune(integer, integer, integer, integer) to service_role;

-- Called here, and by hand where pg_cron is enabled later.
create function public.lsh_schedule_prune() returns boolean language plpgsql set search_path = '' as $$
begin
    if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
        return false;
    end if;
    perform cron.schedule('lsh-prune', '*/10 * * * *', 'select public.lsh_prune(most => 50000)');
    return true;
end
$$;
comment on function public.lsh_schedule_prune() is
    'Has pg_cron call lsh_prune every ten minutes; false where pg_cron is not enabled. Other days: cron.schedule(''lsh-prune'', …) anew';
revoke all on function public.lsh_schedule_prune() from public, anon, authenticated, service_role;
select public.lsh_schedule_prune();

create function public.lsh_check() returns jsonb language sql volatile set search_path = '' as $$
    select jsonb_build_object(
        'role', current_user,
        'tenant', public.lsh_tenant(),
        'now', clock_timestamp(),
        'schema_version', public.lsh_schema_version(),
        'sees_all', not row_security_active('public.runs'),
        'may_not', coalesce((
            select jsonb_agg(format('%s %s', lower(verb), name) order by name, verb)
            from unnest(array['hosts', 'jobs', 'runs', 'run_output', 'alerts', 'audit', 'settings']) as name,
                unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as verb
            where not has_table_privilege('public.' || name, verb)
        ), '[]'))
$$;
comment on function public.lsh_check() is
    'What lshctl supabase test asks: the caller''s role and tenant, the clock of the database, its schema, whether row level security is passed by, '
    'and what the role may not do to which table';
revoke all on function public.lsh_check() from public, anon, authenticated, service_role;
grant execute on function public.lsh_check() to authenticated, service_role;

insert into public.lsh_schema (version) values ('20261122000020');
