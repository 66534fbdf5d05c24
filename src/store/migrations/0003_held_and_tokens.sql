-- Messages that are in the hands of a session and not known to have reached its client. A core that
-- starts makes offline messages of them: the core of before was killed.
CREATE TABLE held_messages (
    -- Ascending in order of arrival.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- Unix milliseconds.
    received_ms INTEGER NOT NULL,
    stanza      TEXT    NOT NULL
) STRICT;

CREATE INDEX held_messages_of_account ON held_messages (account_id, id);

-- XEP-0484. The mechanism needs the token itself, as the key of an HMAC: a hash would not do. It is
-- random, of 256 bits, for one installation of a client alone, and expires.
CREATE TABLE fast_tokens (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- The client's id of itself (XEP-0388, section 2.4.1).
    client     TEXT    NOT NULL,
    -- 0: in use. 1: given out, and not used yet; the one in use is good until it is.
    slot       INTEGER NOT NULL CHECK (slot IN (0, 1)),
    -- It is good for this one only.
    mechanism  TEXT    NOT NULL,
    token      TEXT    NOT NULL,
    -- Of the account when it was given out: other keys make it worthless.
    generation INTEGER NOT NULL,
    -- Unix milliseconds.
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (account_id, client, slot)
) STRICT, WITHOUT ROWID;
