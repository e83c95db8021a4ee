-- Scheduled jobs and their runs; whole answers for idempotency keys.
CREATE TABLE jobs (
    tenant_id     TEXT COLLATE "C"     NOT NULL REFERENCES tenants (tenant_id),
    name          TEXT COLLATE "C"     NOT NULL,
    -- Which task it runs, and that task's settings as a JSON object.
    kind          TEXT COLLATE "C"     NOT NULL,
    settings      TEXT COLLATE "C"     NOT NULL,
    -- Cron fields, read in an IANA zone.
    schedule      TEXT COLLATE "C"     NOT NULL,
    zone          TEXT COLLATE "C"     NOT NULL,
    -- What becomes of missed ticks: skip, once, all (of which the newest catch_up_max).
    misfire       TEXT COLLATE "C"     NOT NULL,
    catch_up_max  BIGINT   NOT NULL,
    timeout_ms    BIGINT   NOT NULL,
    retries       BIGINT   NOT NULL,
    paused        SMALLINT NOT NULL,
    -- The next tick; NULL while paused or deleted, and when there is none.
    next_at       BIGINT,
    -- Ticks that were not run.
    missed        BIGINT   NOT NULL,
    -- Why it is no longer scheduled although it is not paused.
    error         TEXT COLLATE "C",
    created_at    BIGINT   NOT NULL,
    updated_at    BIGINT   NOT NULL,
    deleted_at    BIGINT,
    PRIMARY KEY (tenant_id, name)
);
CREATE INDEX jobs_due ON jobs (next_at) WHERE next_at IS NOT NULL;

-- One row per tick, whoever inserts it.
CREATE TABLE job_runs (
    tenant_id     TEXT COLLATE "C"     NOT NULL,
    job           TEXT COLLATE "C"     NOT NULL,
    scheduled_at  BIGINT   NOT NULL,
    id            TEXT COLLATE "C"     NOT NULL,
    -- cron, api, retry
    cause         TEXT COLLATE "C"     NOT NULL,
    -- queued, running, done, failed
    state         TEXT COLLATE "C"     NOT NULL,
    -- Counts how often it was taken up; what an older attempt writes is refused.
    attempt       BIGINT   NOT NULL,
    -- Attempts that ended with an error, and those whose worker fell silent.
    failures      BIGINT   NOT NULL,
    losses        BIGINT   NOT NULL,
    -- May be taken up from here on: when queued its turn, when running the end of its lease; NULL
    -- once it has ended.
    due_at        BIGINT,
    heartbeat_at  BIGINT,
    -- What the task last told of itself, as JSON.
    progress      TEXT COLLATE "C",
    created_at    BIGINT   NOT NULL,
    started_at    BIGINT,
    finished_at   BIGINT,
    error         TEXT COLLATE "C",
    result        TEXT COLLATE "C",
    PRIMARY KEY (tenant_id, job, scheduled_at)
);
CREATE UNIQUE INDEX job_runs_by_id ON job_runs (tenant_id, job, id);
CREATE INDEX job_runs_due ON job_runs (due_at) WHERE due_at IS NOT NULL;
-- The runs of a job go one at a time.
CREATE UNIQUE INDEX job_runs_running ON job_runs (tenant_id, job) WHERE state = 'running';
CREATE INDEX job_runs_finished ON job_runs (tenant_id, finished_at) WHERE finished_at IS NOT NULL;

-- What an answer is replayed with beside its body: a JSON object of headers. NULL with a status:
-- the request was answered, but the answer was not kept.
ALTER TABLE idempotency ADD COLUMN headers TEXT;
