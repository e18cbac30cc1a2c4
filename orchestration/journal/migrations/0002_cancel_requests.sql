-- A cancel that was answered holds, whatever dies before the unit is at a border.
ALTER TABLE units ADD COLUMN cancel_requested INTEGER NOT NULL DEFAULT 0;
