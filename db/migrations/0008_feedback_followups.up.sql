-- Feedback on classifications and what is learned from it; follow-ups of leads; flags tried out on leads.

CREATE TABLE ai_feedback (
    id                uuid PRIMARY KEY,
    user_id           uuid NOT NULL,
    business_id       uuid,
    entity_type       text NOT NULL CHECK (entity_type IN ('invoice_item', 'expense_category', 'supplier',
                                                           'transaction_classification')),
    entity_id         text NOT NULL CHECK (length(entity_id) BETWEEN 1 AND 200),
    ai_prediction     jsonb NOT NULL,
    user_correction   jsonb NOT NULL,
    item_description  text NOT NULL DEFAULT '' CHECK (length(item_description) <= 2000),
    amount            numeric(18, 2),
    correction_type   text NOT NULL CHECK (correction_type IN ('confirmation', 'partial_edit', 'full_override')),
    ai_model_version  text,
    used_in_training  boolean NOT NULL DEFAULT false,
    training_batch_id text,
    trained_at        timestamptz,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (used_in_training = (training_batch_id IS NOT NULL) AND used_in_training = (trained_at IS NOT NULL))
);
COMMENT ON COLUMN ai_feedback.id IS 'uuid5 of what was said about which thing by whom: the same said again is one row';
COMMENT ON COLUMN ai_feedback.amount IS 'naira';
CREATE INDEX ai_feedback_for_training ON ai_feedback (used_in_training, created_at);
CREATE INDEX ai_feedback_of_user ON ai_feedback (user_id, created_at);

CREATE TABLE business_classification_patterns (
    business_id         uuid NOT NULL,
    item_pattern        text NOT NULL CHECK (length(item_pattern) BETWEEN 1 AND 500),
    category            text NOT NULL CHECK (length(category) BETWEEN 1 AND 100),
    occurrence_count    integer NOT NULL CHECK (occurrence_count >= 1),
    correct_predictions integer NOT NULL CHECK (correct_predictions BETWEEN 0 AND occurrence_count),
    total_amount        numeric(20, 2) NOT NULL,
    confidence          double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, item_pattern, category)
);
COMMENT ON COLUMN business_classification_patterns.item_pattern IS 'a description, lower-case and trimmed';
COMMENT ON COLUMN business_classification_patterns.total_amount IS 'naira, of the feedback that named this category';
CREATE INDEX business_classification_patterns_by_text
    ON business_classification_patterns USING gin (item_pattern gin_trgm_ops);

-- How a tenant's leads are followed up; a tenant without a row has the defaults of domain/follow_up.py.
CREATE TABLE follow_up_tenants (
    tenant      text PRIMARY KEY CHECK (length(tenant) BETWEEN 1 AND 200),
    business    text NOT NULL CHECK (length(business) BETWEEN 1 AND 80),
    time_zone   text NOT NULL,
    quiet_start time NOT NULL,
    quiet_end   time NOT NULL,
    limits      jsonb NOT NULL,
    webhook_url text,
    texts       jsonb NOT NULL,
    updated_by  text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Personal data: where a lead is reached. Apart from everything else, so that it can be erased alone.
CREATE TABLE lead_contacts (
    lead_id    text PRIMARY KEY REFERENCES leads (lead_id),
    channel    text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp')),
    address    text NOT NULL CHECK (length(address) BETWEEN 3 AND 254),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One row a message: a lead never gets the same one twice, whatever starts it again.
CREATE TABLE follow_ups (
    lead_id     text NOT NULL REFERENCES leads (lead_id),
    number      integer NOT NULL CHECK (number >= 1),
    due         timestamptz NOT NULL,
    state       text NOT NULL CHECK (state IN ('waiting', 'sending', 'sent', 'unconfirmed', 'failed', 'missed', 'stopped')),
    channel     text CHECK (channel IN ('webhook', 'email', 'sms', 'whatsapp')),
    tries       integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    provider_id text CHECK (length(provider_id) <= 200),
    reason      text CHECK (length(reason) <= 300),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (lead_id, number)
);
COMMENT ON COLUMN follow_ups.state IS 'sending: on its way, or the process died meanwhile and nobody knows';
CREATE INDEX follow_ups_newest ON follow_ups (updated_at DESC);

CREATE TABLE flags (
    id         text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,59}$'),
    setting    text NOT NULL CHECK (setting IN ('memory', 'enrichment', 'prediction_threshold', 'follow_up_timing')),
    buckets    jsonb NOT NULL,
    minimum    integer NOT NULL CHECK (minimum >= 30),
    status     text NOT NULL CHECK (status IN ('running', 'promoted', 'stopped')),
    winner     text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'promoted') = (winner IS NOT NULL))
);
CREATE UNIQUE INDEX flags_one_running ON flags (setting) WHERE status = 'running';

CREATE TABLE flag_leads (
    flag        text NOT NULL REFERENCES flags (id),
    lead_id     text NOT NULL REFERENCES leads (lead_id),
    bucket      text NOT NULL,
    assigned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flag, lead_id)
);
COMMENT ON TABLE flag_leads IS 'leads that a flag concerned; what became of each is in lead_outcomes';
