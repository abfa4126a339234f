DROP TABLE rate_limits;
CREATE TABLE rate_limits (
    subject text NOT NULL,
    action  text NOT NULL,
    period  text NOT NULL CHECK (period IN ('minute', 'hour', 'day')),
    started timestamptz NOT NULL,
    count   integer NOT NULL CHECK (count >= 0),
    PRIMARY KEY (subject, action, period, started)
);
DROP INDEX proposals_by_text, markets_by_rules, rules_by_question;
ALTER TABLE proposals DROP COLUMN matched, DROP COLUMN reason;
