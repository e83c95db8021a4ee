-- Counts changes of where a channel leads, what opens it and whether it is sent to: what a sender
-- learns of an older one says nothing about the newer.
ALTER TABLE channels ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
-- Not sent to before, tests aside (milliseconds): its receiver asked to wait, or failed.
ALTER TABLE channels ADD COLUMN wait_until BIGINT;
-- Tries in a row that did not work.
ALTER TABLE channels ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;

-- Since when its receiver has asked to wait, while nothing else came in between (milliseconds).
ALTER TABLE deliveries ADD COLUMN throttled_since BIGINT;
-- 1 once a try ended without a clear answer: the receiver may have it.
ALTER TABLE deliveries ADD COLUMN maybe_told SMALLINT NOT NULL DEFAULT 0;
UPDATE deliveries SET maybe_told = 1 WHERE attempts > 0;
CREATE INDEX deliveries_tests ON deliveries (channel_id, due_at) WHERE state = 'queued' AND kind = 'test';
