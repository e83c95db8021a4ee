-- Tenants, their API keys, what was changed by whom, and answers to repeated writes.
-- Times are milliseconds since 1970 UTC. COLLATE "C" orders texts by their bytes, as SQLite does.
CREATE TABLE tenants (
    tenant_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_at  BIGINT NOT NULL,
    deleted_at  BIGINT
);

CREATE TABLE api_keys (
    tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant_id),
    id           TEXT COLLATE "C" NOT NULL,
    name         TEXT   NOT NULL,
    -- The public part of the key, by which its row is found.
    lookup       TEXT   NOT NULL,
    -- SHA-256 of the secret part; the key itself is never stored.
    secret_hash  BYTEA  NOT NULL,
    scopes       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX api_keys_by_lookup ON api_keys (lookup);
CREATE UNIQUE INDEX api_keys_by_id ON api_keys (id);

CREATE TABLE audit (
    tenant_id  TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    -- A JSON object.
    detail     TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE idempotency (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    key           TEXT     NOT NULL,
    -- SHA-256 of the request, so that a key reused for another request is noticed.
    request_hash  BYTEA    NOT NULL,
    -- NULL while the first request is still under way.
    status        SMALLINT,
    body          BYTEA,
    created_at    BIGINT   NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);
