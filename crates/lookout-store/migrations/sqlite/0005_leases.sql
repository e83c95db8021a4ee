-- Who publishes each chain's frames. The token grows with each take-over.
CREATE TABLE chain_leases (
    chain_id  BIGINT NOT NULL PRIMARY KEY,
    holder    TEXT   NOT NULL,
    token     BIGINT NOT NULL,
    -- Not after (milliseconds); 0 once it was given back.
    until     BIGINT NOT NULL
);
