-- Incarnations up to this one were of another device: what they still report is not the present one's.
ALTER TABLE resources ADD COLUMN former_epoch TEXT NOT NULL DEFAULT '[]';
