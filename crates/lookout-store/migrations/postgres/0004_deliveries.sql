-- Where alerts go, and each alert's way there.
CREATE TABLE channels (
    tenant_id    TEXT COLLATE "C"   NOT NULL REFERENCES tenants (tenant_id),
    id           TEXT COLLATE "C"   NOT NULL,
    name         TEXT COLLATE "C"   NOT NULL,
    -- telegram, slack, discord, webhook, email
    kind         TEXT COLLATE "C"   NOT NULL,
    -- What its owner set, without secrets, as JSON.
    config       TEXT COLLATE "C"   NOT NULL,
    -- Tokens and signing keys, as JSON; never shown again.
    secrets      TEXT COLLATE "C"   NOT NULL,
    -- unlinked (a Telegram chat that has not said /start yet), active, disabled
    state        TEXT COLLATE "C"   NOT NULL,
    -- Why it is disabled.
    reason       TEXT,
    -- Alerts are held back until then (milliseconds).
    muted_until  BIGINT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    deleted_at   BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX channels_by_id ON channels (id);

CREATE TABLE deliveries (
    tenant_id    TEXT COLLATE "C"   NOT NULL,
    id           TEXT COLLATE "C"   NOT NULL,
    channel_id   TEXT COLLATE "C"   NOT NULL,
    -- NULL for a test.
    alert_id     TEXT,
    -- alert, retraction, test
    kind         TEXT COLLATE "C"   NOT NULL,
    -- queued, sending, sent, silenced, cancelled, dead
    state        TEXT COLLATE "C"   NOT NULL,
    attempts     BIGINT NOT NULL,
    -- Not tried before (milliseconds).
    due_at       BIGINT NOT NULL,
    -- While sending: by whom and how long at most.
    lease        TEXT,
    lease_until  BIGINT,
    -- The receiver's name of the message, one for all deliveries that it carried.
    message_id   TEXT,
    -- What went wrong last.
    error        TEXT,
    created_at   BIGINT NOT NULL,
    ended_at     BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX deliveries_once ON deliveries (tenant_id, alert_id, channel_id, kind);
CREATE INDEX deliveries_due ON deliveries (channel_id, due_at, id) WHERE state = 'queued';
CREATE INDEX deliveries_leased ON deliveries (lease_until) WHERE state = 'sending';
CREATE INDEX deliveries_sending ON deliveries (channel_id, lease_until) WHERE state = 'sending';
CREATE INDEX deliveries_by_channel ON deliveries (tenant_id, channel_id, id);

-- When a destination (a bot, a chat, a host) may be sent to next; shared by all instances.
CREATE TABLE pacing (
    destination  TEXT COLLATE "C"   NOT NULL PRIMARY KEY,
    ready_at     BIGINT NOT NULL
);

-- Alerts that are not to be sent for a time.
CREATE TABLE silences (
    tenant_id   TEXT COLLATE "C"   NOT NULL REFERENCES tenants (tenant_id),
    id          TEXT COLLATE "C"   NOT NULL,
    -- What it holds back: a JSON object of rule and channel ids and chain; empty for everything.
    matcher     TEXT COLLATE "C"   NOT NULL,
    comment     TEXT COLLATE "C"   NOT NULL,
    starts_at   BIGINT NOT NULL,
    ends_at     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    deleted_at  BIGINT,
    PRIMARY KEY (tenant_id, id)
);

-- Codes by which a Telegram chat proves that it is the one meant by a channel.
CREATE TABLE telegram_codes (
    -- SHA-256 of the code, which is shown once.
    code_hash   BYTEA   NOT NULL PRIMARY KEY,
    tenant_id   TEXT COLLATE "C"   NOT NULL,
    channel_id  TEXT COLLATE "C"   NOT NULL,
    expires_at  BIGINT NOT NULL
);
CREATE INDEX telegram_codes_by_channel ON telegram_codes (tenant_id, channel_id);

-- How far the updates of a bot have been read, and by which instance.
CREATE TABLE telegram_bots (
    -- A hash of its token.
    bot          TEXT COLLATE "C"   NOT NULL PRIMARY KEY,
    -- Without the @; empty until the bot has introduced itself.
    username     TEXT COLLATE "C"   NOT NULL,
    -- 1 for the server's, which serves channels without a token of their own.
    is_server    SMALLINT NOT NULL,
    -- The first update that is not done yet.
    next_update  BIGINT NOT NULL,
    lease        TEXT COLLATE "C"   NOT NULL,
    lease_until  BIGINT NOT NULL
);
