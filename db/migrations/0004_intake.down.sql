DROP INDEX candidates_to_start;
ALTER TABLE candidates DROP COLUMN started_at, DROP COLUMN market_id, DROP COLUMN decided_by;
DROP INDEX news_items_by_time, news_items_by_title;
ALTER TABLE news_items
    DROP COLUMN duplicate_of,
    DROP COLUMN title_key,
    DROP CONSTRAINT news_items_feed_id_fkey,
    ADD CONSTRAINT news_items_feed_id_fkey FOREIGN KEY (feed_id) REFERENCES rss_feeds (id);
ALTER TABLE rss_feeds
    DROP CONSTRAINT rss_feeds_name_key, DROP CONSTRAINT rss_feeds_name_check, DROP COLUMN failures;
