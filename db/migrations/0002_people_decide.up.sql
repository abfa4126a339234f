-- Reviews, decisions by hand, disputes.

CREATE TABLE reviewers (
    name       text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    added_by   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE reviewers IS 'who may decide reviews; everybody else is refused';

INSERT INTO ai_config (key, value, updated_by) VALUES ('review_undo_seconds', '10', 'migration');

ALTER TABLE markets ADD COLUMN rehearsal jsonb;
COMMENT ON COLUMN markets.rehearsal IS 'what each source gave when the draft was last checked, for its reviewer';

ALTER TABLE disputes
    DROP CONSTRAINT disputes_status_check,
    ADD CONSTRAINT disputes_status_check
        CHECK (status IN ('submitted', 'refused', 'open', 'escalated', 'upheld', 'overturned')),
    ADD COLUMN look         integer CHECK (look >= 1),
    ADD COLUMN outcome      text CHECK (outcome IN ('YES', 'NO')),
    ADD COLUMN admitted_at  timestamptz,
    ADD COLUMN opinion      jsonb,
    ADD COLUMN closed_by    text,
    ADD COLUMN closed_why   text,
    ADD CHECK (status IN ('submitted', 'refused') OR (look IS NOT NULL AND outcome IS NOT NULL AND admitted_at IS NOT NULL));
CREATE INDEX disputes_by_disputant ON disputes (disputant, admitted_at);
COMMENT ON COLUMN disputes.outcome IS 'the disputed one, which followed from look';

-- An outcome that a person or a dispute decided, where the rules alone gave none or another.
ALTER TABLE resolutions
    ADD COLUMN decided_by text,
    ADD COLUMN reason     text,
    ADD COLUMN dispute_id uuid REFERENCES disputes (id),
    ADD CHECK ((decided_by IS NULL) = (reason IS NULL)),
    ADD CHECK (decided_by IS NULL OR outcome IS NOT NULL);
