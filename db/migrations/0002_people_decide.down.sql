ALTER TABLE resolutions DROP COLUMN dispute_id, DROP COLUMN reason, DROP COLUMN decided_by;
DELETE FROM disputes WHERE status IN ('submitted', 'refused');
ALTER TABLE disputes
    DROP COLUMN closed_why, DROP COLUMN closed_by, DROP COLUMN opinion, DROP COLUMN admitted_at, DROP COLUMN outcome,
    DROP COLUMN look, DROP CONSTRAINT disputes_status_check,
    ADD CONSTRAINT disputes_status_check CHECK (status IN ('open', 'upheld', 'overturned', 'escalated'));
ALTER TABLE markets DROP COLUMN rehearsal;
DELETE FROM ai_config WHERE key = 'review_undo_seconds';
DROP TABLE reviewers;
