-- SIP subscriptions, both ways (docs/decisions/0008): the gateway's own form, renewed after a restart.
CREATE TABLE sip_records (
    key        TEXT    PRIMARY KEY,
    value      BLOB    NOT NULL,
    -- Unix milliseconds; worthless afterwards.
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
