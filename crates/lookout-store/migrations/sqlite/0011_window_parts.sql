-- The windows of `window_snapshots` in parts, each of bounded size, of which a commit writes those that
-- changed. Joined in the order of their names they are the whole.
CREATE TABLE window_parts (
    chain_id  BIGINT NOT NULL,
    part      TEXT NOT NULL,
    state     BLOB NOT NULL,
    PRIMARY KEY (chain_id, part)
);
-- What was kept as one is read as one part, and written in smaller ones from then on.
INSERT INTO window_parts (chain_id, part, state)
    SELECT chain_id, '0', state FROM window_snapshots WHERE LENGTH(state) > 0;
ALTER TABLE window_snapshots DROP COLUMN state;
-- Seconds over which the newest version of a rule takes records together, while it watches: what windows
-- may remember has a limit. Rules of before count from their next change on.
ALTER TABLE rules ADD COLUMN window_s BIGINT NOT NULL DEFAULT 0;
