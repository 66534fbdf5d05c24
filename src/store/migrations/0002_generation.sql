-- Counts the changes of an account's keys: who logged in with other keys must log in again.
ALTER TABLE accounts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
