-- The lowest block of the followed chain, as the rules have it: when it is undone there is no head, and the
-- next block may have any parent. Unlike `first_height` it goes with its block.
ALTER TABLE consumers ADD COLUMN base_height BIGINT;
UPDATE consumers SET base_height = first_height WHERE head_height IS NOT NULL;
-- The same for the frame at which the windows were kept.
ALTER TABLE window_snapshots ADD COLUMN base_height BIGINT;
UPDATE window_snapshots SET base_height = (SELECT c.first_height FROM consumers c
    WHERE c.name = 'rules' AND c.chain_id = window_snapshots.chain_id) WHERE head_height IS NOT NULL;
-- The time of the block at `first_height`, in seconds: windows are cut off below it.
ALTER TABLE consumers ADD COLUMN first_time BIGINT;
