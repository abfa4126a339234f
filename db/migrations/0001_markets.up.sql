-- The market side: what was asked, what was drafted, what was fetched, what was decided, what is on chain.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE rss_feeds (
    id            uuid PRIMARY KEY,
    url           text NOT NULL UNIQUE,
    name          text NOT NULL,
    enabled       boolean NOT NULL DEFAULT true,
    etag          text,
    last_modified text,
    last_polled   timestamptz,
    last_error    text
);

CREATE TABLE news_items (
    content_sha256 text PRIMARY KEY CHECK (content_sha256 ~ '^[0-9a-f]{64}$'),
    feed_id        uuid REFERENCES rss_feeds (id),
    url            text NOT NULL,
    title          text NOT NULL,
    content        text NOT NULL,
    published_at   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE candidates (
    content_sha256 text PRIMARY KEY REFERENCES news_items (content_sha256),
    extraction     jsonb NOT NULL,
    worth_it       boolean NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE proposals (
    market_id       uuid PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    status          text NOT NULL CHECK (status IN ('pending', 'processing', 'matched', 'draft_created', 'approved',
                                                    'rejected', 'needs_human', 'published')),
    proposal        jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN proposals.market_id IS 'uuid5 of the idempotency key: one proposal, one market';

-- Rules are content-addressed: an edit is a new row, and what was published stays as it was.
CREATE TABLE rules (
    rules_sha256 text PRIMARY KEY CHECK (rules_sha256 ~ '^[0-9a-f]{64}$'),
    body         jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE markets (
    id                     uuid PRIMARY KEY,
    origin                 text NOT NULL CHECK (origin IN ('news', 'proposal', 'manual')),
    status                 text NOT NULL CHECK (status IN ('draft', 'pending_review', 'active', 'resolving', 'resolved',
                                                           'disputed', 'finalized', 'rejected', 'canceled')),
    title                  text NOT NULL CHECK (length(title) BETWEEN 1 AND 256),
    description            text NOT NULL,
    category               text NOT NULL CHECK (category IN ('politics', 'product_launch', 'finance', 'sports',
                                                             'entertainment', 'technology', 'misc')),
    rules_sha256           text NOT NULL REFERENCES rules (rules_sha256),
    ai_version             text NOT NULL,
    initial_yes_prob       integer NOT NULL CHECK (initial_yes_prob BETWEEN 2000 AND 8000),
    confidence             double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    expiry                 timestamptz NOT NULL,
    validation             jsonb,
    address                text UNIQUE,
    dispute_window_seconds integer CHECK (dispute_window_seconds >= 0),
    outcome                text CHECK (outcome IN ('YES', 'NO', 'VOID')),
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX markets_by_status ON markets (status, expiry);
CREATE INDEX markets_by_title ON markets USING gin (title gin_trgm_ops);

-- Bytes as they were fetched, compressed with zstd, named by the hash of the uncompressed bytes.
CREATE TABLE evidence (
    sha256       text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    content_type text NOT NULL,
    size         integer NOT NULL CHECK (size >= 0),
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE market_evidence (
    market_id  uuid NOT NULL REFERENCES markets (id),
    look       integer NOT NULL CHECK (look >= 1),
    source     text NOT NULL,
    url        text NOT NULL,
    sha256     text NOT NULL REFERENCES evidence (sha256),
    fetched_at timestamptz NOT NULL,
    PRIMARY KEY (market_id, look, source)
);
COMMENT ON COLUMN market_evidence.look IS 'which look at the sources, from 1; the resolution names the one it used';

CREATE TABLE resolutions (
    market_id     uuid NOT NULL REFERENCES markets (id),
    look          integer NOT NULL,
    rules_sha256  text NOT NULL REFERENCES rules (rules_sha256),
    outcome       text CHECK (outcome IN ('YES', 'NO')),
    abstention    text,
    results       jsonb NOT NULL,
    evidence_root text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (market_id, look),
    CHECK ((outcome IS NULL) <> (abstention IS NULL))
);

CREATE TABLE disputes (
    id         uuid PRIMARY KEY,
    market_id  uuid NOT NULL REFERENCES markets (id),
    disputant  text NOT NULL,
    reason     text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    evidence   jsonb NOT NULL,
    status     text NOT NULL CHECK (status IN ('open', 'upheld', 'overturned', 'escalated')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX disputes_by_market ON disputes (market_id, status);

-- One row a transaction that was ever signed. At most one for each purpose may still land.
CREATE TABLE chain_transactions (
    id                      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    market_id               uuid NOT NULL REFERENCES markets (id),
    purpose                 text NOT NULL,
    state                   text NOT NULL CHECK (state IN ('signed', 'sent', 'landed', 'failed', 'expired')),
    signature               text NOT NULL UNIQUE,
    wire                    bytea NOT NULL,
    last_valid_block_height bigint NOT NULL,
    slot                    bigint,
    error                   text,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX chain_transactions_one_open ON chain_transactions (market_id, purpose)
    WHERE state IN ('signed', 'sent', 'landed');

CREATE TABLE llm_calls (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ai_version    text NOT NULL,
    prompt_type   text NOT NULL,
    prompt_sha256 text NOT NULL,
    input_sha256  text NOT NULL,
    model         text NOT NULL,
    request_id    text,
    answer        jsonb NOT NULL,
    input_tokens  integer NOT NULL,
    output_tokens integer NOT NULL,
    cost_usd      numeric(12, 6) NOT NULL,
    latency_ms    integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (ai_version, prompt_type, input_sha256)
);
COMMENT ON TABLE llm_calls IS 'every answer that was paid for, and the cache that makes a repeated attempt free';

-- Append-only and hash-chained: each entry's hash covers the one before it, and audit_head the last one, so that a
-- removed, edited or moved entry is found. Ids have no gaps.
CREATE TABLE audit_logs (
    id              bigint PRIMARY KEY CHECK (id >= 1),
    action          text NOT NULL,
    entity_type     text NOT NULL,
    entity_id       text NOT NULL,
    actor           text NOT NULL,
    details         jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    previous_sha256 text NOT NULL CHECK (previous_sha256 ~ '^[0-9a-f]{64}$'),
    sha256          text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE INDEX audit_logs_by_entity ON audit_logs (entity_type, entity_id, id);

CREATE TABLE audit_head (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    entries bigint NOT NULL,
    sha256  text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
INSERT INTO audit_head (entries, sha256) VALUES (0, repeat('0', 64));

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs is append-only: % is refused', TG_OP;
END
$$;
CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE ai_config (
    key        text PRIMARY KEY,
    value      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL
);
INSERT INTO ai_config (key, value, updated_by) VALUES
    ('ai_version', '"ai_v1.0.0_gpt35_20240601"', 'migration'),
    ('llm_model', '"gpt35"', 'migration'),
    ('validation_confidence_threshold', '0.6', 'migration'),
    ('max_retries', '3', 'migration'),
    ('dispute_window_hours', '24', 'migration'),
    ('categories', '["politics", "product_launch", "finance", "sports", "entertainment", "technology", "misc"]',
     'migration'),
    ('rate_limits', '{"propose": {"minute": 3, "hour": 20, "day": 100}, "dispute": {"hour": 5, "day": 20}}',
     'migration');

CREATE TABLE rate_limits (
    subject text NOT NULL,
    action  text NOT NULL,
    period  text NOT NULL CHECK (period IN ('minute', 'hour', 'day')),
    started timestamptz NOT NULL,
    count   integer NOT NULL CHECK (count >= 0),
    PRIMARY KEY (subject, action, period, started)
);

-- What a step gave, stored in the transaction of its effect: a repeated attempt returns it and does nothing.
CREATE TABLE step_results (
    step       text NOT NULL,
    key        text NOT NULL,
    result     jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (step, key)
);
