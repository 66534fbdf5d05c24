-- Personal eventing (XEP-0163): what an account publishes.
CREATE TABLE pep_nodes (
    id          INTEGER PRIMARY KEY,
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    node        TEXT    NOT NULL,
    access      TEXT    NOT NULL CHECK (access IN ('presence', 'open', 'whitelist')),
    max_items   INTEGER NOT NULL CHECK (max_items > 0),
    persist     INTEGER NOT NULL CHECK (persist IN (0, 1)),
    -- The last item is sent to who comes online.
    send_last   INTEGER NOT NULL CHECK (send_last IN (0, 1)),
    UNIQUE (account_id, node)
) STRICT;

CREATE TABLE pep_items (
    -- Ascending in order of publication.
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id INTEGER NOT NULL REFERENCES pep_nodes (id) ON DELETE CASCADE,
    item    TEXT    NOT NULL,
    payload TEXT    NOT NULL,
    UNIQUE (node_id, item)
) STRICT;

CREATE INDEX pep_items_of_node ON pep_items (node_id, id);
