-- Balances that a job has read, until the rules have been asked about them. They are taken into
-- `balance_readings` by the transaction that commits the alerts they lead to.
CREATE TABLE fresh_readings (
    -- One round of reading: UUIDv7.
    batch       TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    asset       TEXT   NOT NULL,
    -- Smallest units, decimal.
    balance     TEXT   NOT NULL,
    chain_id    BIGINT NOT NULL,
    height      BIGINT NOT NULL,
    block_hash  BLOB   NOT NULL,
    PRIMARY KEY (batch, account, asset)
);
CREATE INDEX fresh_readings_by_height ON fresh_readings (chain_id, height, batch);
