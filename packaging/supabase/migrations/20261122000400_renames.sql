-- A job that is renamed on its host takes along what is only here of it: its host has pruned that.

create function public.lsh_job_renamed(
    on_host uuid, of_scope text, old_id text, new_id text, renamed_at timestamptz, most integer default 5000
) returns boolean language plpgsql set search_path = '' as $$
declare
    runs bigint;
    alerts bigint;
begin
    if old_id = new_id or most < 1 then
        raise exception 'lsh_job_renamed: two ids, and most is 1 or more' using errcode = 'invalid_parameter_value';
    end if;
    update public.runs set job = new_id where ctid = any (array(
        select ctid from public.runs
        where host = on_host and scope = of_scope and job = old_id and coalesce(started_at, received_at) < renamed_at
        limit most));
    get diagnostics runs = row_count;
    update public.alerts set job = new_id where ctid = any (array(
        select ctid from public.alerts
        where host = on_host and scope = of_scope and job = old_id and created_at < renamed_at limit most));
    get diagnostics alerts = row_count;
    return greatest(runs, alerts) = most;
end
$$;
comment on function public.lsh_job_renamed(uuid, text, text, text, timestamptz, integer) is
    'Gives what a host''s job has had of runs and alerts until it was renamed its new id. So many rows at most, so that a call stays short: '
    'where the answer is true, call again. A job that has the old id since keeps its own';
revoke all on function public.lsh_job_renamed(uuid, text, text, text, timestamptz, integer)
    from public, anon, authenticated, service_role;
grant execute on function public.lsh_job_renamed(uuid, text, text, text, timestamptz, integer) to service_role;

insert into public.lsh_schema (version) values ('20261122000400');
