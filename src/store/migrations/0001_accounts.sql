-- Who may log in, and all that belongs to one account. Removing the account removes it all.
--
-- Addresses are text in the wire form of `gatehouse_types::Jid`, which has one spelling for each.
-- A released migration is never changed: databases remember its checksum. Add a new file.

-- `Gate`: the file is ours.
PRAGMA application_id = 0x47617465;

CREATE TABLE accounts (
    -- Never used again after a removal (AUTOINCREMENT): roster versions are built on it.
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    jid            TEXT    NOT NULL UNIQUE CHECK (jid LIKE '_%@_%' AND jid NOT LIKE '%/%'),
    -- A-labels, for listing one domain.
    domain         TEXT    NOT NULL,
    -- RFC 6121, 2.6. Starts at id * 2^32, so that an account made anew under an old name never
    -- shows a version that a client of the old one has seen.
    roster_version INTEGER NOT NULL DEFAULT 0,
    -- Changes after this version can still be listed; older removals are forgotten.
    roster_floor   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX accounts_of_domain ON accounts (domain);

-- SCRAM keys (RFC 5802, section 3); never a password.
CREATE TABLE scram_keys (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    mechanism  TEXT    NOT NULL,
    salt       BLOB    NOT NULL,
    iterations INTEGER NOT NULL CHECK (iterations > 0),
    stored_key BLOB    NOT NULL,
    server_key BLOB    NOT NULL,
    PRIMARY KEY (account_id, mechanism)
) STRICT;

-- RFC 6121, 2.1.2 and appendix A, and requests of those who are not in the roster.
CREATE TABLE contacts (
    account_id   INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    jid          TEXT    NOT NULL,
    in_roster    INTEGER NOT NULL CHECK (in_roster IN (0, 1)),
    name         TEXT,
    subscription TEXT    NOT NULL CHECK (subscription IN ('none', 'to', 'from', 'both')),
    pending_out  INTEGER NOT NULL CHECK (pending_out IN (0, 1)),
    -- The request as it came.
    pending_in   TEXT,
    approved     INTEGER NOT NULL CHECK (approved IN (0, 1)),
    -- A JSON array of text.
    groups       TEXT    NOT NULL,
    -- The roster version of the last change; 0 while not in the roster.
    version      INTEGER NOT NULL,
    PRIMARY KEY (account_id, jid)
) STRICT;

-- Contacts that left the roster, so that a client can be told at its next log-in.
CREATE TABLE roster_removals (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    jid        TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    PRIMARY KEY (account_id, jid)
) STRICT;

CREATE INDEX roster_removals_by_version ON roster_removals (account_id, version);

CREATE TABLE offline_messages (
    -- Ascending in order of arrival, and never used again: a client that removes up to an id must
    -- not hit a later message.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- Unix milliseconds.
    received_ms INTEGER NOT NULL,
    stanza      TEXT    NOT NULL
) STRICT;

CREATE INDEX offline_messages_of_account ON offline_messages (account_id, id);

-- XEP-0054.
CREATE TABLE vcards (
    account_id INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    vcard      TEXT    NOT NULL
) STRICT;

-- XEP-0191.
CREATE TABLE blocked (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    jid        TEXT    NOT NULL,
    PRIMARY KEY (account_id, jid)
) STRICT, WITHOUT ROWID;

-- Random values of the node, made once.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
