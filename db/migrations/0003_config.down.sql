DROP INDEX llm_calls_by_time, llm_calls_answers;
DELETE FROM llm_calls WHERE answer IS NULL;
ALTER TABLE llm_calls
    DROP COLUMN estimated, DROP COLUMN fault, ALTER COLUMN answer SET NOT NULL,
    ADD UNIQUE (ai_version, prompt_type, input_sha256);
DROP TRIGGER ai_config_tells ON ai_config;
DROP TRIGGER ai_config_counts ON ai_config;
DROP FUNCTION tell_config_change;
DROP FUNCTION count_config_change;
ALTER TABLE ai_config DROP COLUMN version;
DROP SEQUENCE ai_config_versions;
DELETE FROM ai_config WHERE key = 'llm_daily_budget_usd';
DROP TABLE ai_versions;
