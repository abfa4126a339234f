DROP TABLE step_results, rate_limits, ai_config, audit_head, audit_logs, llm_calls, chain_transactions, disputes, resolutions,
    market_evidence, evidence, markets, rules, proposals, candidates, news_items, rss_feeds;
DROP FUNCTION refuse_change;
DROP EXTENSION IF EXISTS pg_trgm;
