CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE units (
  seq INTEGER PRIMARY KEY,
  resource TEXT NOT NULL,
  state TEXT NOT NULL,
  commands TEXT NOT NULL,
  completed INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  epoch TEXT NOT NULL DEFAULT '[]',
  reason TEXT NOT NULL DEFAULT '',
  code TEXT NOT NULL DEFAULT '',
  on_failure TEXT,
  idempotency_key TEXT,
  body_hash TEXT,
  command_deadline_s REAL,
  accepted_utc REAL NOT NULL,
  changed_utc REAL NOT NULL,
  next_attempt_utc REAL
) STRICT;

CREATE UNIQUE INDEX units_by_key ON units (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX units_by_resource ON units (resource, seq);
-- Nearly every row ends as succeeded, and those are found fast enough by walking the table.
CREATE INDEX units_by_state ON units (state, seq) WHERE state <> 'succeeded';

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  at_utc REAL NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  resource TEXT NOT NULL,
  epoch TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;

-- One index entry per event: events of a resource are found by it, all others by their subject.
CREATE INDEX events_by_resource ON events (resource, seq) WHERE resource <> '';
CREATE INDEX events_by_subject ON events (subject, seq) WHERE resource = '';

CREATE TABLE resources (
  path TEXT PRIMARY KEY,
  on_demand INTEGER NOT NULL DEFAULT 0,
  epoch TEXT NOT NULL DEFAULT '[]',
  desired TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE reporters (
  node TEXT PRIMARY KEY,
  epoch TEXT NOT NULL,
  last_report INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
  revision INTEGER PRIMARY KEY,
  body TEXT NOT NULL,
  at_utc REAL NOT NULL
) STRICT;
