DROP TABLE rule_templates, model_migrations, migration_inputs, experiment_calls, experiments;
