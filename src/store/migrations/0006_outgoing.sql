-- Messages of users to SIP partners, until the partner's final answer, or until the author was told why
-- there is none. A core that starts finds what the core of before did not get done.
CREATE TABLE outgoing_messages (
    -- Ascending in order of arrival.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- The partner's domain.
    domain      TEXT    NOT NULL,
    -- Unix milliseconds.
    received_ms INTEGER NOT NULL,
    -- Of the stanza, so that the caps can be looked up in the indexes alone.
    bytes       INTEGER NOT NULL,
    stanza      TEXT    NOT NULL
) STRICT;

CREATE INDEX outgoing_messages_of_account ON outgoing_messages (account_id, bytes);
CREATE INDEX outgoing_messages_of_domain ON outgoing_messages (domain, bytes);
