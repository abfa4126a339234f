-- Tests of prompts, comparisons of models, and what a category's rules begin with.

CREATE TABLE experiments (
    id             text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,59}$'),
    prompt_type    text NOT NULL,
    ai_version     text NOT NULL,
    control        text NOT NULL,
    variant        text NOT NULL CHECK (variant <> control),
    variant_sha256 text NOT NULL CHECK (variant_sha256 ~ '^[0-9a-f]{64}$'),
    share          double precision NOT NULL CHECK (share BETWEEN 0.05 AND 0.5),
    metric         text NOT NULL CHECK (metric IN ('approved_without_person', 'undisputed')),
    minimum        integer NOT NULL CHECK (minimum >= 10),
    start          timestamptz NOT NULL,
    status         text NOT NULL CHECK (status IN ('running', 'promoted', 'stopped')),
    created_by     text NOT NULL
);
CREATE UNIQUE INDEX experiments_one_running ON experiments (prompt_type) WHERE status = 'running';

CREATE TABLE experiment_calls (
    experiment   text NOT NULL REFERENCES experiments (id),
    subject      text NOT NULL,
    arm          text NOT NULL CHECK (arm IN ('control', 'variant')),
    input_sha256 text NOT NULL CHECK (input_sha256 ~ '^[0-9a-f]{64}$'),
    confidence   double precision CHECK (confidence BETWEEN 0 AND 1),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (experiment, subject, input_sha256)
);
COMMENT ON COLUMN experiment_calls.subject IS 'a market''s id; what became of it is in audit_logs';

-- What models are compared over: the values of a prompt's variables.
CREATE TABLE migration_inputs (
    prompt_type      text NOT NULL,
    variables_sha256 text NOT NULL CHECK (variables_sha256 ~ '^[0-9a-f]{64}$'),
    variables        jsonb NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (prompt_type, variables_sha256)
);

CREATE TABLE model_migrations (
    id          text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_.-]{0,59}$'),
    old_version text NOT NULL,
    new_version text NOT NULL CHECK (new_version <> old_version),
    status      text NOT NULL CHECK (status IN ('comparing', 'reported', 'switched', 'rejected', 'stale')),
    report      jsonb,
    why         text,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Each change is a new row, so that it shows what held when a market was drafted.
CREATE TABLE rule_templates (
    category   text NOT NULL,
    version    integer NOT NULL CHECK (version >= 1),
    body       jsonb NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (category, version)
);
