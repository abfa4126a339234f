DELETE FROM ai_config WHERE key IN ('pii_approval', 'pii_columns');
DROP TABLE pii_places, pii_parts, pii_runs;
