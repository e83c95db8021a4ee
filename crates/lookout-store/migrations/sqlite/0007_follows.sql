-- What the held blocks of each chain were followed for.
CREATE TABLE follows (
    chain_id  BIGINT NOT NULL PRIMARY KEY,
    wants     TEXT   NOT NULL
);
