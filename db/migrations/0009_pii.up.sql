-- PII backfill: runs, how far each part of each pass is, and what was found where. No content and no PII: keys, counts,
-- digests of redacted items.

CREATE TABLE pii_runs (
    id          text PRIMARY KEY CHECK (id ~ '^pii-backfill-[0-9A-Za-z:.-]{1,60}$'),
    execute     boolean NOT NULL,
    asked_by    text NOT NULL,
    pattern_set text NOT NULL,
    rate        integer CHECK (rate >= 1),
    halted      boolean NOT NULL DEFAULT false,
    status      text NOT NULL DEFAULT 'running'
                CHECK (status IN ('running', 'reported', 'clean', 'leftovers', 'rejected', 'stopped')),
    why         text,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,
    CHECK ((status = 'running') = (ended_at IS NULL))
);
COMMENT ON COLUMN pii_runs.halted IS 'parts return at the next place; with rate read by every part once a second';
CREATE INDEX pii_runs_newest ON pii_runs (started_at DESC);

CREATE TABLE pii_parts (
    run        text NOT NULL REFERENCES pii_runs (id) ON DELETE CASCADE,
    number     integer NOT NULL CHECK (number >= 0),
    part       text NOT NULL,
    server     text NOT NULL,
    cursor     text NOT NULL,
    done       boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, number, part)
);
COMMENT ON COLUMN pii_parts.server IS 'whose cursor it is: a server that was started again has other cursors';

CREATE TABLE pii_places (
    run          text NOT NULL REFERENCES pii_runs (id) ON DELETE CASCADE,
    number       integer NOT NULL CHECK (number >= 0),
    place        text NOT NULL,
    tenant       text NOT NULL,
    items        integer NOT NULL CHECK (items >= 0),
    large        integer NOT NULL CHECK (large >= 0),
    gone         integer NOT NULL CHECK (gone >= 0),
    wrong_type   boolean NOT NULL,
    malformed    integer[] NOT NULL,
    without_text integer[] NOT NULL,
    changes      bytea NOT NULL,
    kinds        jsonb NOT NULL,
    PRIMARY KEY (run, number, place)
);
COMMENT ON COLUMN pii_places.place IS 'a list''s key, redacted; or table.column#block';
COMMENT ON COLUMN pii_places.changes IS '20 bytes an item: its index, then of the SHA-256 of its redacted bytes the first 16';
CREATE INDEX pii_places_left ON pii_places (run, number)
    WHERE wrong_type OR malformed <> '{}' OR without_text <> '{}';

INSERT INTO ai_config (key, value, updated_by) VALUES
    ('pii_approval', 'false', 'migration'),
    ('pii_columns', '[]', 'migration');
