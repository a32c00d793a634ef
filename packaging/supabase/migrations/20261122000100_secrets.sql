-- The team's secrets: environment files, each sealed on the client before it comes here. Nobody who has this database alone
-- can read one, its variables' names included; nor put one in another's place unnoticed, as each seal is bound to its
-- environment and version.
--
-- Rows are only ever added, by lsh_secrets_push(), which is also what keeps two who push at once from losing one another.

create table public.secrets (
    tenant    text not null default 'default',
    env       text not null check (env ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    version   integer not null check (version > 0),
    pushed_at timestamptz not null default now(),
    pushed_by text not null check (length(pushed_by) <= 200),
    host      text not null check (length(host) <= 255),
    sealed    text not null check (length(sealed) <= 400000),
    primary key (tenant, env, version)
);
comment on table public.secrets is 'Versions of environment files, sealed by lshctl secrets push; the newest 50 of each environment';
comment on column public.secrets.tenant is 'Whose they are: authenticated users with this app_metadata.lsh_tenant see the sealed rows';
comment on column public.secrets.env is 'The environment, as prod';
comment on column public.secrets.version is 'From 1 on, without gaps';
comment on column public.secrets.pushed_at is 'When it came, by the clock of the database';
comment on column public.secrets.pushed_by is 'Who pushed it, as the host tells';
comment on column public.secrets.host is 'The host''s name';
comment on column public.secrets.sealed is 'The file, encrypted with the team''s key (AES-256-GCM, scrypt), in base64';

alter table public.secrets enable row level security;
create policy lsh_tenant_reads on public.secrets for select to authenticated using (tenant = (select public.lsh_tenant()));
revoke all on public.secrets from public, anon, authenticated, service_role;
grant select on public.secrets to authenticated, service_role;

create function public.lsh_secrets_push(
    p_env text, p_base integer, p_sealed text, p_by text, p_host text, p_tenant text default 'default'
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    newest integer;
begin
    perform pg_advisory_xact_lock(hashtextextended('lsh secrets ' || p_tenant || ' ' || p_env, 0));
    select coalesce(max(s.version), 0) into newest from public.secrets s where s.tenant = p_tenant and s.env = p_env;
    -- Sent again by a client that has not heard our answer.
    if newest = p_base + 1 and exists (
        select from public.secrets s
        where s.tenant = p_tenant and s.env = p_env and s.version = newest and s.sealed = p_sealed
    ) then
        return jsonb_build_object('stored', true, 'version', newest);
    end if;
    if newest is distinct from p_base then
        return jsonb_build_object('stored', false, 'version', newest);
    end if;
    insert into public.secrets (tenant, env, version, pushed_by, host, sealed)
    values (p_tenant, p_env, newest + 1, p_by, p_host, p_sealed);
    delete from public.secrets s where s.tenant = p_tenant and s.env = p_env and s.version <= newest + 1 - 50;
    return jsonb_build_object('stored', true, 'version', newest + 1);
end
$$;
comment on function public.lsh_secrets_push(text, integer, text, text, text, text) is
    'Add the version after p_base, unless p_base is no longer the newest: then nothing is stored, and the newest is told';
revoke all on function public.lsh_secrets_push(text, integer, text, text, text, text) from public, anon, authenticated, service_role;
grant execute on function public.lsh_secrets_push(text, integer, text, text, text, text) to service_role;

insert into public.lsh_schema (version) values ('20261122000100');
