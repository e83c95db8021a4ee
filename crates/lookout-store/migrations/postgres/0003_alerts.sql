-- What consumers of frames have committed: where they are, and the alerts of rules.
CREATE TABLE consumers (
    name         TEXT COLLATE "C"   NOT NULL,
    chain_id     BIGINT NOT NULL,
    -- The last frame whose effects are committed.
    sequence     BIGINT NOT NULL,
    -- The lowest block applied since it began, or since it was reset.
    first_height BIGINT,
    head_height  BIGINT,
    head_hash    BYTEA,
    -- While it is rebuilt after a reset: where it stood before.
    rebuild_sequence BIGINT,
    rebuild_height   BIGINT,
    -- Blocks below this height were seen; from there on `watched_blocks` knows.
    rebuild_floor    BIGINT,
    rebuild_hash     BYTEA,
    PRIMARY KEY (name, chain_id)
);

-- The blocks that the rules consumer has seen at the newest heights, those undone among them.
CREATE TABLE watched_blocks (
    chain_id    BIGINT NOT NULL,
    height      BIGINT NOT NULL,
    hash        BYTEA   NOT NULL,
    block_time  BIGINT NOT NULL,
    -- 1 while it is not on the followed chain.
    undone      SMALLINT NOT NULL,
    PRIMARY KEY (chain_id, height, hash)
);

-- Windows of rules as they were after a frame; frames since are applied again at the start. Empty
-- where no rule has a window.
CREATE TABLE window_snapshots (
    chain_id  BIGINT NOT NULL PRIMARY KEY,
    sequence  BIGINT NOT NULL,
    -- The head after that frame.
    head_height BIGINT,
    head_hash   BYTEA,
    state     BYTEA   NOT NULL
);

-- One match of a rule, and what became of it.
CREATE TABLE alerts (
    tenant_id     TEXT COLLATE "C"   NOT NULL,
    -- UUIDv7 of the block's time and a hash of what is matched: the same in every rebuild.
    id            TEXT COLLATE "C"   NOT NULL,
    rule_id       TEXT COLLATE "C"   NOT NULL,
    rule_version  BIGINT NOT NULL,
    rule_name     TEXT COLLATE "C"   NOT NULL,
    chain_id      BIGINT NOT NULL,
    height        BIGINT NOT NULL,
    block_hash    BYTEA   NOT NULL,
    -- Seconds, of the block.
    block_time    BIGINT NOT NULL,
    -- Which record, as JSON.
    record        TEXT COLLATE "C"   NOT NULL,
    -- 1, or more when the same block came back after the alert was retracted.
    occurrence    BIGINT NOT NULL,
    -- The message: plain text, and a JSON array of spans with offsets in UTF-16 units.
    text          TEXT COLLATE "C"   NOT NULL,
    spans         TEXT COLLATE "C"   NOT NULL,
    -- The values in the message by name, a JSON object.
    facts         TEXT COLLATE "C"   NOT NULL,
    -- The height of the head at which it is confirmed.
    confirms_at   BIGINT NOT NULL,
    -- pending, confirmed, retracted. A pending one whose block is undone goes without a trace.
    state         TEXT COLLATE "C"   NOT NULL,
    -- Milliseconds, by the clock of this machine.
    created_at    BIGINT NOT NULL,
    confirmed_at  BIGINT,
    retracted_at  BIGINT,
    -- 0 from a reset of the consumer until its frames bring the alert again, if they do.
    replayed      SMALLINT NOT NULL DEFAULT 1,
    -- Number of the commit that changed it last, for those who follow changes.
    changed       BIGINT NOT NULL DEFAULT 0,
    -- 1 where a balance was read: frames do not bring it again.
    is_reading    SMALLINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX alerts_by_block ON alerts (chain_id, height);
CREATE INDEX alerts_pending ON alerts (chain_id, confirms_at) WHERE state = 'pending';
CREATE INDEX alerts_retracted ON alerts (chain_id, height) WHERE state = 'retracted';
CREATE INDEX alerts_unreplayed ON alerts (chain_id, height) WHERE replayed = 0;
CREATE INDEX alerts_by_change ON alerts (tenant_id, changed);
CREATE INDEX alerts_by_rule ON alerts (tenant_id, rule_id, id);

-- One row, taken first by every commit that changes alerts, so that changes become visible in order.
CREATE TABLE alert_revision (
    id        BIGINT NOT NULL PRIMARY KEY,
    revision  BIGINT NOT NULL
);
INSERT INTO alert_revision (id, revision) VALUES (1, 0);

-- Records that a rule could not be evaluated on, counted, for its owner to see.
CREATE TABLE rule_failures (
    tenant_id     TEXT COLLATE "C"   NOT NULL,
    rule_id       TEXT COLLATE "C"   NOT NULL,
    rule_version  BIGINT NOT NULL,
    reason        TEXT COLLATE "C"   NOT NULL,
    count         BIGINT NOT NULL,
    -- The newest: its height and the record as JSON.
    last_height   BIGINT NOT NULL,
    last_record   TEXT COLLATE "C"   NOT NULL,
    PRIMARY KEY (tenant_id, rule_id, rule_version, reason)
);

-- Balances as rules saw them, so that an undone block brings back the reading before.
CREATE TABLE balance_readings (
    chain_id    BIGINT NOT NULL,
    account     TEXT COLLATE "C"   NOT NULL,
    asset       TEXT COLLATE "C"   NOT NULL,
    height      BIGINT NOT NULL,
    block_hash  BYTEA   NOT NULL,
    -- Smallest units, decimal.
    balance     TEXT COLLATE "C"   NOT NULL,
    PRIMARY KEY (chain_id, account, asset, height)
);
CREATE INDEX balance_readings_by_height ON balance_readings (chain_id, height);
