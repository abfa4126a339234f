-- Proposals: which open market asks the same, why there is no market, and how often somebody may propose.

ALTER TABLE proposals
    ADD COLUMN matched uuid REFERENCES markets (id),
    ADD COLUMN reason  text CHECK (length(reason) <= 500),
    ADD CHECK ((status = 'matched') = (matched IS NOT NULL));
COMMENT ON COLUMN proposals.matched IS 'the open market that asks the same';
COMMENT ON COLUMN proposals.reason IS 'why it was matched or rejected before there was a draft, in a sentence';

-- A market is compared by its question and by the words it was proposed in, which its draft may have changed.
CREATE INDEX rules_by_question ON rules USING gin ((body ->> 'exact_question') gin_trgm_ops);
CREATE INDEX markets_by_rules ON markets (rules_sha256);
CREATE INDEX proposals_by_text ON proposals USING gin ((proposal ->> 'text') gin_trgm_ops);

-- One row a use, so that a limit holds in every minute, hour and day and not only in those of the clock.
DROP TABLE rate_limits;
CREATE TABLE rate_limits (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action  text NOT NULL,
    subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 100),
    used_at timestamptz NOT NULL
);
COMMENT ON COLUMN rate_limits.subject IS 'a user, or an IP address where there is none; rows older than a day are removed';
CREATE INDEX rate_limits_of_subject ON rate_limits (action, subject, used_at);
CREATE INDEX rate_limits_by_time ON rate_limits (used_at);
