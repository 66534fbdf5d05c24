/// The commented `gatehouse.toml` that `gatehouse init` writes. It means the same as no file.
pub const TEMPLATE: &str = r#"# gatehouse.toml: every setting with its default. Lines that start with `#` are comments;
# remove the `#` to change one. `gatehouse check-config` tells every mistake at once.
# Durations: "500ms", "10s", "5m", "2h", "1d". Relative paths start beside this file.

# What runs in this process. The whole appliance: both. An edge in the DMZ: ["edge"], and a core
# inside: ["core"]; see docs/operate/two-processes.md.
roles = ["edge", "core"]

# The IM domains whose users live here, as they stand behind the @ of an address.
domains = ["ours.example"]

# Where everything is kept: accounts, messages, certificates, keys.
data = "gatehouse-data"

# The host name that SRV records name and that every certificate carries besides its domain.
# Default: `edge.` and the first domain.
# edge-host = "edge.ours.example"

[log]
# format = "text"               # or "json": one object a line
# filter = "info"               # such as "info,gatehouse_edge=debug"

[listen]
# c2s = ["[::]:5222"]             # clients, STARTTLS
# c2s-direct-tls = ["[::]:5223"]  # clients, TLS from the first byte
# s2s = ["[::]:5269"]             # other servers, STARTTLS
# s2s-direct-tls = ["[::]:5270"]  # other servers, TLS from the first byte
# sip = ["[::]:5061"]             # SIP partners, TLS; off unless you write it
# sip-inside-tls = ["[::]:5071"]  # trusted SIP servers of the inside; off unless you write it
# sip-inside-tcp = ["[::]:5060"]  # the same in the clear
# admin = "127.0.0.1:5280"        # /metrics and /status, loopback only

[dns]
# servers = ["127.0.0.1"]       # default: the system's
# trust-ad = true               # DANE: `servers` validate DNSSEC, and are all on this machine

[tls]
# trust = ["partner-ca.pem"]    # authorities besides the system's
# system-roots = true

[certificates]
# xmpp-addr = false             # adds id-on-xmppAddr; ejabberd drops peers that have it
# rsa = false                   # true: each domain gets an RSA certificate beside its ECDSA one

[policy]
# Who may federate. Default: anyone whose certificate proves its domain.
# file = "policies/partners-only.toml"

[s2s]
# target-timeout = "10s"        # one SRV target, from TCP to an open stream
# connect-timeout = "30s"       # all targets; then the waiting messages are bounced
# queue-len-max = 256           # stanzas that wait for one pair of domains
# idle-timeout = "10m"
# private-targets = false       # true: partners may be at private addresses (a lab, a closed network)
# bidi = true                   # one connection for both directions where the partner can (XEP-0288)

[sip]
# Partners that speak SIP, such as Lync; `[[sip]]` rows of the policy say who. See
# docs/operate/sip-partners.md for the DNS records and certificate names they look for.
# host-label = "sip"            # partners see `sip.` and the domain; SRV records name it
# public-port = 5061            # what partners see, behind a port mapping perhaps
# routing-nodes = ["core"]      # the cores that take new sessions, the preferred one first
# edges = 1                     # at an edge: how many send to partners, each its part of the policy's pace
# node-ports = [{ node = "core", address = "[::]:45061" }]  # ports that lead to one core each
# default-kind = "lync"         # a partner that says nothing of itself; or "standard"
# busy-as = "dnd"               # how a busy Lync user looks to XMPP clients; or "away"
# undelivered = "Your IM could not be delivered."
# session-idle = "10m"          # silence after which an IM session ends
# deliver-within = "10m"        # how long a message may wait for a partner, over restarts too
# subscriptions-max = 20000     # to presence, both ways together; about 9 KB each
# partner-share = 25            # percent of them, and of IM sessions, that one partner may use
# route-embed-templates = ["74..78xxxxx*"]  # forms that routes with wildcards inside may have
# SIP servers of the inside, and what goes to them; docs/protocols/sip-inside.md has each key.
# trusted = [{ name = "pbx", subjects = ["pbx.ours.example"], domains = ["phones.ours.example"], kind = "standard" }]
# route = [{ domain = "phones.ours.example", next-hop = "pbx.ours.example", protocol = "tls" }]

[limits]
# connections-max = 10000       # for each listener
# client-stanza-bytes-max = 262144
# server-stanza-bytes-max = 524288
# sessions-per-account-max = 10
# contacts-per-account-max = 200    # 0: none are allowed
# watchers-per-account-max = 200    # contacts that see a user's presence
# workers = 3                   # threads for connections; default: one fewer than there are cores

[offline]
# per-account-max = 100         # messages kept for a user who is away
# per-node-max = 30000
"#;
