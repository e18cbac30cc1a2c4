-- How often a unit's pod has died under it since it last completed a command.
ALTER TABLE units ADD COLUMN pod_losses INTEGER NOT NULL DEFAULT 0;
