-- Models: leads and what became of them, what was scored, registered versions, which is active and was when.

CREATE FUNCTION refuse_log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP;
END
$$;

-- The features alone: what a person wrote is read once and not kept. A feature may be missing, as rows from outside
-- come so; training is refused on such rows.
CREATE TABLE leads (
    lead_id     text PRIMARY KEY CHECK (length(lead_id) BETWEEN 1 AND 200),
    tenant      text CHECK (length(tenant) BETWEEN 1 AND 200),
    tenant_hash integer CHECK (tenant_hash BETWEEN 0 AND 9999),
    intent      text CHECK (length(intent) <= 100),
    sentiment   text CHECK (length(sentiment) <= 100),
    urgency     text CHECK (length(urgency) <= 100),
    score       double precision CHECK (score BETWEEN 0 AND 1),
    details_len integer CHECK (details_len >= 0),
    hour_of_day integer CHECK (hour_of_day BETWEEN 0 AND 23),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN leads.tenant IS 'null where a file of outcomes brought the lead, which has only the hash';

CREATE TABLE lead_outcomes (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lead_id     text NOT NULL REFERENCES leads (lead_id),
    outcome     text NOT NULL CHECK (outcome IN ('booked', 'ghosted', 'qualified', 'unqualified', 'nurture', 'spam')),
    source      text UNIQUE,
    recorded_by text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE lead_outcomes IS 'append-only: the newest outcome of a lead counts';
COMMENT ON COLUMN lead_outcomes.source IS 'hash of the imported file and the line in it, so that a file counts once';
CREATE INDEX lead_outcomes_newest ON lead_outcomes (lead_id, recorded_at DESC, id DESC);
CREATE TRIGGER lead_outcomes_append_only BEFORE UPDATE OR DELETE ON lead_outcomes
    FOR EACH ROW EXECUTE FUNCTION refuse_log_change();
CREATE TRIGGER lead_outcomes_no_truncate BEFORE TRUNCATE ON lead_outcomes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_log_change();

CREATE TABLE model_artifacts (
    sha256     text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE model_artifacts IS 'canonical JSON named by its hash; what failed the gate is here too, and not in ml_models';

CREATE TABLE ml_models (
    model         text NOT NULL CHECK (model IN ('lead', 'transactions')),
    version       bigint NOT NULL CHECK (version >= 1),
    sha256        text NOT NULL REFERENCES model_artifacts (sha256),
    signature     bytea NOT NULL CHECK (length(signature) = 64),
    n_train       integer NOT NULL CHECK (n_train >= 1),
    n_test        integer NOT NULL CHECK (n_test >= 1),
    trained_from  timestamptz,
    cutoff        timestamptz NOT NULL,
    data_sha256   text NOT NULL CHECK (data_sha256 ~ '^[0-9a-f]{64}$'),
    code_version  text NOT NULL,
    metrics       jsonb NOT NULL,
    evaluation    jsonb NOT NULL,
    gate          jsonb NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    approved_by   text,
    approved_at   timestamptz,
    PRIMARY KEY (model, version),
    CHECK ((approved_by IS NULL) = (approved_at IS NULL))
);
COMMENT ON COLUMN ml_models.signature IS 'Ed25519 over model, version and sha256';

CREATE FUNCTION refuse_model_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.approved_by IS NULL
       AND to_jsonb(NEW) - 'approved_by' - 'approved_at' = to_jsonb(OLD) - 'approved_by' - 'approved_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'ml_models keeps every version as it was registered: % is refused', TG_OP;
END
$$;
CREATE TRIGGER ml_models_kept BEFORE UPDATE OR DELETE ON ml_models
    FOR EACH ROW EXECUTE FUNCTION refuse_model_change();
CREATE TRIGGER ml_models_no_truncate BEFORE TRUNCATE ON ml_models
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_log_change();

-- Numbered without a gap for each model, so that of two at once one is refused; its time only grows.
CREATE TABLE model_promotions (
    model   text NOT NULL,
    number  integer NOT NULL CHECK (number >= 1),
    version bigint,
    kind    text NOT NULL CHECK (kind IN ('activated', 'rolled_back', 'switched_back')),
    at      timestamptz NOT NULL,
    by      text NOT NULL,
    why     text NOT NULL CHECK (length(why) BETWEEN 1 AND 500),
    PRIMARY KEY (model, number),
    UNIQUE (model, at),
    UNIQUE (model, number, version),
    FOREIGN KEY (model, version) REFERENCES ml_models (model, version),
    CHECK (version IS NOT NULL OR kind = 'switched_back')
);
COMMENT ON COLUMN model_promotions.version IS 'null: from here on none, as the first one was switched back';
CREATE TRIGGER model_promotions_append_only BEFORE UPDATE OR DELETE ON model_promotions
    FOR EACH ROW EXECUTE FUNCTION refuse_log_change();
CREATE TRIGGER model_promotions_no_truncate BEFORE TRUNCATE ON model_promotions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_log_change();

CREATE FUNCTION continue_promotions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last model_promotions;
BEGIN
    SELECT * INTO last FROM model_promotions WHERE model = NEW.model ORDER BY number DESC LIMIT 1;
    IF NEW.number <> coalesce(last.number, 0) + 1 OR NEW.at <= last.at THEN
        RAISE EXCEPTION 'promotion % of % does not follow number %', NEW.number, NEW.model, coalesce(last.number, 0);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER model_promotions_continue BEFORE INSERT ON model_promotions
    FOR EACH ROW EXECUTE FUNCTION continue_promotions();

CREATE FUNCTION tell_promotion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ml_models', NEW.model);
    RETURN NULL;
END
$$;
CREATE TRIGGER model_promotions_tell AFTER INSERT ON model_promotions FOR EACH ROW EXECUTE FUNCTION tell_promotion();

-- At most one row a model: at most one active version, and only one that the log has.
CREATE TABLE active_models (
    model   text PRIMARY KEY,
    version bigint NOT NULL,
    number  integer NOT NULL,
    FOREIGN KEY (model, number, version) REFERENCES model_promotions (model, number, version)
);

-- Processes that score, and what each has loaded; a row that was not seen for some seconds means nothing.
CREATE TABLE model_loads (
    process   uuid NOT NULL,
    model     text NOT NULL,
    version   bigint,
    error     text CHECK (length(error) <= 500),
    loaded_at timestamptz,
    seen_at   timestamptz NOT NULL,
    PRIMARY KEY (process, model)
);

CREATE TABLE scored_rows (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lead_id     text NOT NULL REFERENCES leads (lead_id),
    version     bigint NOT NULL,
    probability double precision NOT NULL CHECK (probability BETWEEN 0 AND 1),
    scored_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX scored_rows_by_lead ON scored_rows (lead_id, id DESC);
CREATE INDEX scored_rows_by_time ON scored_rows (version, scored_at);

CREATE TABLE drift_reports (
    model       text NOT NULL,
    version     bigint NOT NULL,
    day         date NOT NULL,
    drift_score double precision NOT NULL CHECK (drift_score >= 0),
    rows        integer NOT NULL CHECK (rows >= 0),
    report      jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version, day),
    FOREIGN KEY (model, version) REFERENCES ml_models (model, version)
);

-- Models whose new versions a person approves before they become active.
INSERT INTO ai_config (key, value, updated_by) VALUES ('model_approval', '[]', 'migration');
