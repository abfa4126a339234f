-- News intake: feeds with names, near-duplicates, who decided about an item, and which market it caused.

ALTER TABLE rss_feeds
    ADD COLUMN failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    ADD CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    ADD UNIQUE (name);
COMMENT ON COLUMN rss_feeds.failures IS 'polls that failed in a row; last_error is of the last one';

ALTER TABLE news_items
    DROP CONSTRAINT news_items_feed_id_fkey,
    ADD CONSTRAINT news_items_feed_id_fkey FOREIGN KEY (feed_id) REFERENCES rss_feeds (id) ON DELETE SET NULL,
    ADD COLUMN title_key    text NOT NULL,
    ADD COLUMN duplicate_of text REFERENCES news_items (content_sha256);
COMMENT ON COLUMN news_items.title_key IS 'the title in ASCII alone, since pg_trgm knows no other letters under the locale C';
COMMENT ON COLUMN news_items.feed_id IS 'NULL: an operator ingested it, or its feed was removed';
COMMENT ON COLUMN news_items.duplicate_of IS 'the first item that told of the same event';
CREATE INDEX news_items_by_title ON news_items USING gin (title_key gin_trgm_ops) WITH (fastupdate = off)
    WHERE duplicate_of IS NULL;
CREATE INDEX news_items_by_time ON news_items (created_at);

ALTER TABLE candidates
    ADD COLUMN decided_by text NOT NULL,
    ADD COLUMN market_id  uuid UNIQUE,
    ADD COLUMN started_at timestamptz,
    ADD CHECK (worth_it = (market_id IS NOT NULL)),
    ADD CHECK (started_at IS NULL OR worth_it);
COMMENT ON COLUMN candidates.decided_by IS 'rules, or the ai_version whose model was asked';
COMMENT ON COLUMN candidates.started_at IS 'when the lifecycle of the market was started';
CREATE INDEX candidates_to_start ON candidates (created_at) WHERE worth_it AND started_at IS NULL;
