-- What tenants watch: ABIs, labels and rules, with every version of a rule that was ever watched.
CREATE TABLE abis (
    tenant_id   TEXT COLLATE "C"   NOT NULL REFERENCES tenants (tenant_id),
    id          TEXT COLLATE "C"   NOT NULL,
    name        TEXT COLLATE "C"   NOT NULL,
    -- As it was uploaded: a JSON array, or the human-readable form.
    abi         TEXT COLLATE "C"   NOT NULL,
    created_at  BIGINT NOT NULL,
    deleted_at  BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX abis_by_name ON abis (tenant_id, name) WHERE deleted_at IS NULL;

CREATE TABLE labels (
    tenant_id   TEXT COLLATE "C"   NOT NULL REFERENCES tenants (tenant_id),
    name        TEXT COLLATE "C"   NOT NULL,
    -- A JSON array of addresses.
    addresses   TEXT COLLATE "C"   NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE rules (
    tenant_id   TEXT COLLATE "C"     NOT NULL REFERENCES tenants (tenant_id),
    id          TEXT COLLATE "C"     NOT NULL,
    name        TEXT COLLATE "C"     NOT NULL,
    chain_id    BIGINT   NOT NULL,
    -- The rule as its owner wrote it, as JSON.
    document    TEXT COLLATE "C"     NOT NULL,
    -- The newest version, from 1.
    version     BIGINT   NOT NULL,
    paused      SMALLINT NOT NULL,
    -- Where its alerts go: a JSON array of channel ids. Not part of what is watched.
    channels    TEXT COLLATE "C"     NOT NULL,
    -- Blocks on top of a match's own before its alert is sent.
    confirmations BIGINT NOT NULL,
    -- What its owner should know, as a JSON array of sentences.
    notes       TEXT COLLATE "C"     NOT NULL DEFAULT '[]',
    -- What has to be read for it besides logs.
    needs_transactions SMALLINT NOT NULL DEFAULT 0,
    needs_receipts SMALLINT NOT NULL DEFAULT 0,
    created_at  BIGINT   NOT NULL,
    updated_at  BIGINT   NOT NULL,
    deleted_at  BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX rules_by_id ON rules (id);
-- Counts a tenant's rules without reading them.
CREATE INDEX rules_live ON rules (tenant_id, id) WHERE deleted_at IS NULL;

-- Which labels the condition of a rule uses.
CREATE TABLE rule_labels (
    tenant_id   TEXT COLLATE "C"   NOT NULL,
    name        TEXT COLLATE "C"   NOT NULL,
    rule_id     TEXT COLLATE "C"   NOT NULL,
    PRIMARY KEY (tenant_id, name, rule_id)
);
CREATE INDEX rule_labels_by_rule ON rule_labels (tenant_id, rule_id);

-- All that a version is compiled from, so that matches are a function of the frames and this row.
CREATE TABLE rule_versions (
    tenant_id     TEXT COLLATE "C"   NOT NULL,
    rule_id       TEXT COLLATE "C"   NOT NULL,
    version       BIGINT NOT NULL,
    chain_id      BIGINT NOT NULL,
    -- The document with its ABI and labels spelled out, as JSON.
    source        TEXT COLLATE "C"   NOT NULL,
    -- First height it watches; NULL until the consumer has taken it up.
    from_height   BIGINT,
    -- First height it no longer watches; NULL while it watches.
    until_height  BIGINT,
    -- 1 once it is to be retired: paused, deleted, or replaced by the next version.
    retired       SMALLINT NOT NULL,
    -- Store-wide count of changes to this table: the consumer reads what is above what it has seen.
    revision      BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, rule_id, version)
);
CREATE INDEX rule_versions_by_chain ON rule_versions (chain_id, revision);

-- One row, taken first by every change to rule_versions, so that revisions commit in order.
CREATE TABLE rule_revision (
    id        BIGINT NOT NULL PRIMARY KEY,
    revision  BIGINT NOT NULL
);
INSERT INTO rule_revision (id, revision) VALUES (1, 0);
