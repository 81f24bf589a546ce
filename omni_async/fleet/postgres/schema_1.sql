-- Version 1 of the tables of a fleet. A released script never changes: what comes later is a script of its own.
-- The columns of omni_jobs from `key` to `name` are those of the local ledger (ledger/row_format.py).
CREATE TABLE omni_accounts (
    account text PRIMARY KEY,
    server text,  -- the API's address
    key_check text,  -- a salted fingerprint of the API key, never the key
    epoch bigint NOT NULL DEFAULT 0,  -- raised by each takeover
    holder text,  -- who leads
    expires_at timestamptz NOT NULL DEFAULT '-infinity',  -- of its lease, by the clock of this database
    lease_seconds float8,  -- how long it lasts: a candidate that sees no renewal for so long need not trust that clock
    state text NOT NULL DEFAULT 'running',  -- running, paused or draining
    stopped text,  -- why the leader does not submit
    resumes int NOT NULL DEFAULT 0,  -- raised to let the leader submit again
    max_cost float8,  -- USD
    system_id text,  -- the database that the account was used in last,
    timeline int,  -- and its timeline: another one means that a replica was promoted
    confirmed_timeline int
);
CREATE TABLE omni_jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order in which they came
    account text NOT NULL,
    key text NOT NULL,
    idempotency_key text NOT NULL,
    parent text,
    parent_task_id text,
    status text NOT NULL,
    task_id text,
    created_at float8 NOT NULL,
    submitted_at float8,
    accepted_at float8,
    finished_at float8,
    server_seconds float8,
    submits int NOT NULL,
    ambiguous_submits int NOT NULL,
    cost float8,
    credits float8,
    paths text,
    error text NOT NULL,
    previous_task_ids text,
    previous_cost float8 NOT NULL,
    partial_download text,
    sent_references text,
    webhook text,
    videos text,
    name text,  -- what the user calls its file; NULL: a name made from the key
    batch text,
    priority int NOT NULL DEFAULT 0,
    fetched_by text,  -- the worker that has downloaded its clips
    links_wanted boolean NOT NULL DEFAULT false,  -- a worker asks the leader for fresh links
    cancel_wanted boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
-- The queue of submits. A job that extends another one comes into it when that is finished on the server.
CREATE INDEX omni_jobs_ready ON omni_jobs (account, (-priority), id)
    WHERE status = 'waiting' AND (parent IS NULL OR parent_task_id IS NOT NULL);
CREATE INDEX omni_jobs_children ON omni_jobs (account, parent)
    WHERE status = 'waiting' AND parent IS NOT NULL AND parent_task_id IS NULL;
CREATE INDEX omni_jobs_active ON omni_jobs (account, id)
    WHERE status IN ('submitting', 'running', 'downloading', 'timed_out', 'download_failed');
CREATE INDEX omni_jobs_ended ON omni_jobs (account, id) WHERE status IN ('failed', 'unknown', 'cancelled');
CREATE INDEX omni_jobs_wanted ON omni_jobs (account, id) WHERE links_wanted OR cancel_wanted;
CREATE INDEX omni_jobs_measured ON omni_jobs (account, accepted_at, id) WHERE server_seconds IS NOT NULL;
CREATE INDEX omni_jobs_by_task ON omni_jobs (account, task_id) WHERE task_id IS NOT NULL;
-- Apart from the jobs, because a request may be long and never changes. Foreign keys would halve the speed of `enqueue`.
CREATE TABLE omni_requests (job bigint PRIMARY KEY, request text NOT NULL);
-- Who owns which file, for names without case and ending.
CREATE TABLE omni_files (
    account text NOT NULL, name text NOT NULL, key text NOT NULL, video int NOT NULL, PRIMARY KEY (account, name)
);
CREATE TABLE omni_facts (account text NOT NULL, name text NOT NULL, value text NOT NULL, PRIMARY KEY (account, name));
CREATE TABLE omni_uploads (
    account text NOT NULL, server text NOT NULL, digest text NOT NULL, url text NOT NULL, expires_at float8 NOT NULL,
    PRIMARY KEY (account, server, digest)
);
CREATE INDEX omni_uploads_by_url ON omni_uploads (account, url);
CREATE TABLE omni_workers (
    worker text PRIMARY KEY, host text, pid int, role text, version text, started_at timestamptz, seen_at timestamptz,
    leads text[], fetching int, fetched bigint, bytes bigint
);

-- Sums over jobs, so that no query has to count ten million rows. Each statement that changes jobs adds a few rows here:
-- their sum is the truth, and the leader replaces them by it now and then. No row is updated, so no transaction waits for another.
CREATE TABLE omni_totals (
    account text NOT NULL, status text NOT NULL, jobs bigint NOT NULL, submits bigint NOT NULL,
    ambiguous_submits bigint NOT NULL, possibly_paid_twice bigint NOT NULL, cost numeric NOT NULL,
    credits numeric NOT NULL, priced bigint NOT NULL, unpriced bigint NOT NULL
);
CREATE INDEX omni_totals_by_account ON omni_totals (account);
CREATE FUNCTION omni_plausible(amount float8, most float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    $$ SELECT CASE WHEN amount BETWEEN 0 AND most THEN amount END $$;
CREATE FUNCTION omni_paid(cost float8, previous_cost float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    $$ SELECT coalesce(omni_plausible(cost, 1e6), 0) + coalesce(omni_plausible(previous_cost, 1e6), 0) $$;
CREATE FUNCTION omni_is_unpriced(status text, task_id text, cost float8) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT omni_plausible(cost, 1e6) IS NULL AND (status = 'cancelled' AND task_id IS NOT NULL OR status IN
        ('submitting', 'running', 'downloading', 'completed', 'unknown', 'timed_out', 'download_failed'))
$$;
-- One function and one trigger for each kind of statement, because each has other transition tables.
DO $do$ DECLARE
    kind text;
    tables text;
    changed text;
BEGIN
    FOR kind, tables, changed IN VALUES
        ('insert', 'NEW TABLE AS new_rows', 'SELECT *, 1 AS n FROM new_rows'),
        ('delete', 'OLD TABLE AS old_rows', 'SELECT *, -1 AS n FROM old_rows'),
        ('update', 'OLD TABLE AS old_rows NEW TABLE AS new_rows',
         'SELECT *, 1 AS n FROM new_rows UNION ALL SELECT *, -1 FROM old_rows')
    LOOP
        EXECUTE format($create$
CREATE FUNCTION omni_count_%1$s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO omni_totals
    SELECT * FROM (
        SELECT account, status, sum(n) AS jobs, sum(n * submits) AS submits,
            sum(n * ambiguous_submits) AS ambiguous_submits,
            sum(n * (ambiguous_submits + (task_id IS NOT NULL)::int > 1)::int) AS possibly_paid_twice,
            sum(n * omni_paid(cost, previous_cost)::numeric) AS cost,
            sum(n * coalesce(omni_plausible(credits, 1e7), 0)::numeric) AS credits,
            sum(n * (omni_paid(cost, previous_cost) > 0)::int) AS priced,
            sum(n * omni_is_unpriced(status, task_id, cost)::int) AS unpriced
        FROM (%3$s) AS changed GROUP BY account, status
    ) AS sums
    WHERE (jobs, submits, ambiguous_submits, possibly_paid_twice, cost, credits, priced, unpriced)
        <> (0, 0, 0, 0, 0, 0, 0, 0);
    RETURN NULL;
END $$;
CREATE TRIGGER omni_count_%1$s AFTER %1$s ON omni_jobs
    REFERENCING %2$s FOR EACH STATEMENT EXECUTE FUNCTION omni_count_%1$s()
$create$, kind, tables, changed);
    END LOOP;
END $do$;

CREATE FUNCTION omni_timeline() RETURNS int LANGUAGE sql AS
    $$ SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int $$;
CREATE FUNCTION omni_system() RETURNS text LANGUAGE sql AS
    $$ SELECT system_identifier::text FROM pg_control_system() $$;

-- Begins every transaction of a leader. A takeover updates the same row, so it waits for the transactions that have
-- passed here, and after it none of an older epoch passes.
CREATE FUNCTION omni_fence(of_account text, of_epoch bigint, of_timeline int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Behind a pooler the session has no settings of its own.
    PERFORM set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '3s', true);
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM FROM omni_accounts WHERE account = of_account AND epoch = of_epoch FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another worker leads the account % now', of_account USING ERRCODE = 'OM001';
    END IF;
    IF omni_timeline() <> of_timeline THEN
        RAISE EXCEPTION 'a replica of the database was promoted' USING ERRCODE = 'OM002';
    END IF;
END $$;

-- Lets an account go on in this database although it is another one, or has another timeline.
CREATE FUNCTION omni_confirm(of_account text) RETURNS void LANGUAGE sql AS $$
    UPDATE omni_accounts SET system_id = omni_system(), timeline = omni_timeline(),
        confirmed_timeline = omni_timeline(), resumes = resumes + 1 WHERE account = of_account
$$;

-- Writes rows of jobs, given as a JSON list, and returns the keys of those that were not written.
--
-- What a worker has recorded of a download stays, if the leader repeats what it recorded before. A task that a row has
-- already is kept among the previous ones. If `is_acceptance`, the server has accepted these jobs, and only rows that
-- are being submitted under the same idempotency key are written.
CREATE FUNCTION omni_save(of_account text, rows json, is_acceptance boolean) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    written text[];
BEGIN
    WITH updated AS (
        UPDATE omni_jobs AS j SET
            idempotency_key = r.idempotency_key, parent = r.parent, parent_task_id = r.parent_task_id,
            status = r.status, task_id = r.task_id, created_at = r.created_at, submitted_at = r.submitted_at,
            accepted_at = r.accepted_at, finished_at = r.finished_at, server_seconds = r.server_seconds,
            submits = r.submits, ambiguous_submits = r.ambiguous_submits, cost = r.cost, credits = r.credits,
            paths = r.paths, error = r.error, previous_cost = r.previous_cost, partial_download = r.partial_download,
            sent_references = r.sent_references, webhook = r.webhook, videos = r.videos, name = r.name,
            previous_task_ids = CASE
                WHEN j.task_id IS NULL OR j.task_id = r.task_id OR r.previous_task_ids::jsonb ? j.task_id
                THEN r.previous_task_ids
                ELSE (coalesce(r.previous_task_ids::jsonb, '[]') || to_jsonb(j.task_id))::text END,
            changed_at = clock_timestamp()
        FROM json_populate_recordset(NULL::omni_jobs, rows) AS r
        WHERE j.account = of_account AND j.key = r.key
            AND CASE
                WHEN is_acceptance
                THEN j.status = 'submitting' AND j.task_id IS NULL AND j.idempotency_key = r.idempotency_key
                ELSE r.status <> 'downloading' OR j.status NOT IN ('completed', 'download_failed')
                    OR j.task_id IS DISTINCT FROM r.task_id END
        RETURNING j.key)
    SELECT coalesce(array_agg(key), '{}') INTO written FROM updated;
    RETURN ARRAY(SELECT r.key FROM json_populate_recordset(NULL::omni_jobs, rows) AS r WHERE r.key <> ALL(written));
END $$;

-- For the jobs that extend others, given the keys of those: they may be submitted once the others are finished on the
-- server, and fail if those have failed.
CREATE FUNCTION omni_release(of_account text, parents text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE omni_jobs AS c SET parent_task_id = p.task_id, changed_at = clock_timestamp()
    FROM omni_jobs AS p
    WHERE p.account = of_account AND p.key = ANY(parents) AND p.task_id IS NOT NULL
        AND p.status IN ('downloading', 'completed', 'download_failed')
        AND c.account = of_account AND c.parent = p.key
        AND c.status = 'waiting' AND c.parent IS NOT NULL AND c.parent_task_id IS NULL;
    WHILE cardinality(parents) > 0 LOOP
        WITH failed AS (
            UPDATE omni_jobs AS c SET status = 'failed', finished_at = extract(epoch FROM clock_timestamp())::float8,
                error = format('job ''%s'': the job ''%s'' that it extends has no result: %s', c.key, p.key, p.error),
                changed_at = clock_timestamp()
            FROM omni_jobs AS p
            WHERE p.account = of_account AND p.key = ANY(parents)
                AND (p.status IN ('failed', 'cancelled')
                     OR p.status = 'unknown' AND p.changed_at < clock_timestamp() - interval '60 s')
                AND c.account = of_account AND c.parent = p.key
                AND c.status = 'waiting' AND c.parent IS NOT NULL AND c.parent_task_id IS NULL
            RETURNING c.key)
        SELECT array_agg(key) INTO parents FROM failed;
    END LOOP;
END $$;
