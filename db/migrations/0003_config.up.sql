-- Versions of prompts, model and rules; configuration that tells of its changes; unusable answers that were paid for.

CREATE TABLE ai_versions (
    version       text PRIMARY KEY CHECK (version ~ '^ai_v\d+\.\d+\.\d+_[a-z0-9]+_\d{8}$'),
    prompts       jsonb NOT NULL,
    rules_version integer NOT NULL CHECK (rules_version >= 1),
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL,
    reason        text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    deprecated_at timestamptz
);
COMMENT ON COLUMN ai_versions.prompts IS 'by type: version, and sha256 of its file, null until a worker saw it first';
INSERT INTO ai_versions (version, prompts, rules_version, created_by, reason)
SELECT 'ai_v1.0.0_gpt35_20240601', jsonb_object_agg(type, '{"version": "v1", "sha256": null}'::jsonb), 1,
       'migration', 'the first version'
FROM unnest(ARRAY['market_generation', 'validation', 'entity_extraction', 'duplicate_detection', 'dispute_review',
                  'safety_check', 'resolution']) AS type;

INSERT INTO ai_config (key, value, updated_by) VALUES ('llm_daily_budget_usd', 'null', 'migration');

CREATE SEQUENCE ai_config_versions;
ALTER TABLE ai_config ADD COLUMN version bigint NOT NULL DEFAULT nextval('ai_config_versions');
COMMENT ON COLUMN ai_config.version IS 'of the change; the largest names the state of the whole table';

CREATE FUNCTION count_config_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version = nextval('ai_config_versions');
    RETURN NEW;
END
$$;
CREATE TRIGGER ai_config_counts BEFORE UPDATE ON ai_config FOR EACH ROW EXECUTE FUNCTION count_config_change();

CREATE FUNCTION tell_config_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ai_config', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER ai_config_tells AFTER INSERT OR UPDATE OR DELETE ON ai_config
    FOR EACH STATEMENT EXECUTE FUNCTION tell_config_change();

ALTER TABLE llm_calls
    ALTER COLUMN answer DROP NOT NULL,
    ADD COLUMN fault     text,
    ADD COLUMN estimated boolean NOT NULL DEFAULT false,
    ADD CHECK ((answer IS NULL) <> (fault IS NULL)),
    DROP CONSTRAINT llm_calls_ai_version_prompt_type_input_sha256_key;
COMMENT ON COLUMN llm_calls.fault IS 'why an answer that was paid for could not be used';
COMMENT ON COLUMN llm_calls.estimated IS 'the tokens are our own estimate, as the provider told none';
CREATE UNIQUE INDEX llm_calls_answers ON llm_calls (ai_version, prompt_type, input_sha256) WHERE answer IS NOT NULL;
CREATE INDEX llm_calls_by_time ON llm_calls (created_at);
