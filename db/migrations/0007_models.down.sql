DROP TABLE drift_reports, scored_rows, model_loads, active_models, model_promotions, ml_models, model_artifacts,
    lead_outcomes, leads;
DROP FUNCTION tell_promotion, continue_promotions, refuse_model_change, refuse_log_change;
DELETE FROM ai_config WHERE key = 'model_approval';
