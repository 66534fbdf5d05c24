use std::fmt::Write as _;

use gatehouse_types::{Domain, Local, Remote};

use crate::{Conditions, Denial, Policy, Protocol, Require, SipConditions, SipMode, Tls};

impl Policy {
    /// Says in plain text what holds between two domains, and which rule says so: the same answer
    /// that [`conditions`](Self::conditions) gives.
    pub fn explain(&self, local: &Local<Domain>, remote: &Remote<Domain>) -> String {
        let mut text = format!("{remote} and {local}: ");
        if !self.sip.is_empty() {
            text.push_str("XMPP ");
        }
        // Writing to a String cannot fail.
        let _ = match self.conditions(local, remote) {
            Ok(conditions) => write_conditions(&mut text, &conditions),
            Err(Denial::Blocked { rule, .. }) => {
                write!(text, "not allowed, rule `{rule}` blocks it.")
            }
            Err(Denial::NoRule { .. }) => {
                write!(text, "not allowed, none of the {} rules speaks of it.", self.rules.len())
            }
            Err(denial @ (Denial::ProofTooWeak { .. } | Denial::NotEncrypted { .. })) => {
                write!(text, "not allowed, {denial}.")
            }
        };
        let _ = self.write_near_misses(&mut text, local, remote);
        if !self.sip.is_empty() {
            let _ = self.write_sip(&mut text, local, remote);
        }
        text
    }

    fn write_sip(
        &self,
        text: &mut String,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> std::fmt::Result {
        text.write_str("\nSIP ")?;
        let conditions = match self.sip_conditions(local, remote) {
            Ok(conditions) => conditions,
            Err(Denial::Blocked { rule, .. }) => {
                return write!(text, "not allowed, `{rule}` blocks it.");
            }
            Err(_) => {
                return write!(
                    text,
                    "not allowed, none of the {} rows for SIP speaks of it.",
                    self.sip.len()
                );
            }
        };
        write_sip_conditions(text, &conditions)?;
        text.write_str(match self.protocol(local, remote) {
            Ok(Protocol::Sip) => " What we send goes by SIP.",
            Ok(Protocol::Xmpp) => {
                " What we send goes by XMPP: the rule for it is narrower than this row."
            }
            Ok(Protocol::XmppThenSip) => {
                " What we send goes by XMPP first, and by SIP if no XMPP server is found."
            }
            Err(_) => "",
        })
    }

    /// Rules for this partner that do not apply, because they are for other domains of ours: the
    /// usual reason why a rule "does not work".
    fn write_near_misses(
        &self,
        text: &mut String,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> std::fmt::Result {
        for rule in &self.rules {
            if rule.speaks_of(local, remote) {
                break;
            }
            if rule.remote.iter().any(|one| one.matches(&remote.0)) {
                write!(text, "\nRule `{}` names {remote}, but not for {local}.", rule.name)?;
            }
        }
        Ok(())
    }
}

fn write_conditions(text: &mut String, conditions: &Conditions) -> std::fmt::Result {
    let proof = match conditions.require {
        Require::Certificate if !conditions.pins.is_empty() => "a certificate with a pinned key",
        Require::Certificate => "a certificate that proves the domain",
        Require::CertificateOrDialback => "a certificate that proves the domain, or dialback",
    };
    let tls = match conditions.tls {
        Tls::Required => "TLS required",
        Tls::Optional => "TLS where the partner offers it",
    };
    write!(text, "allowed by rule `{}` with {proof}; {tls}", conditions.rule)?;
    let list = |items: Vec<String>| items.join(", ");
    if !conditions.pins.is_empty() {
        let pins = list(conditions.pins.iter().map(ToString::to_string).collect());
        write!(text, "; pinned: {pins}")?;
    }
    if !conditions.route.is_empty() {
        let route = list(conditions.route.iter().map(ToString::to_string).collect());
        write!(text, "; reached at {route}, whatever DNS says")?;
    }
    if let Some(rate) = conditions.stanzas_per_second {
        write!(text, "; at most {rate} stanzas a second from it")?;
    }
    text.write_char('.')
}

fn write_sip_conditions(text: &mut String, conditions: &SipConditions) -> std::fmt::Result {
    write!(text, "allowed by `{}`", conditions.rule)?;
    let host = conditions.host.as_ref().map(Domain::as_str).unwrap_or_default();
    match conditions.mode {
        SipMode::Direct => write!(text, " with a certificate for {host}")?,
        SipMode::Provider => write!(
            text,
            " with a certificate for {host}, if its _sipfederationtls record names that host"
        )?,
        SipMode::Open | SipMode::Enhanced => {
            let grounds = conditions.grounds(&[]);
            let rules = match (grounds.rfc5922, grounds.microsoft) {
                (true, true) => "the domain (RFC 5922) or the SRV target in it (Microsoft)",
                (true, false) => "the domain (RFC 5922)",
                (false, _) => "the SRV target in the domain (Microsoft)",
            };
            write!(text, " with a certificate for {rules}")?;
        }
    }
    if conditions.mode == SipMode::Open {
        text.write_str("; slowed down as a stranger")?;
    }
    if let Some(route) = &conditions.route {
        write!(text, "; reached at {route}, whatever DNS says")?;
    }
    if let Some(rate) = conditions.messages_per_second {
        write!(text, "; at most {rate} requests a second from it")?;
    }
    if let Some(rate) = conditions.send_per_second {
        write!(text, "; sent at most {rate} requests a second, by all edges together")?;
    }
    text.write_char('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_gateway_will_do() {
        let policy: Policy = toml::from_str(
            r#"
            [[rule]]
            name = "bad"
            remote = ["evil.example"]
            action = "block"
            [[rule]]
            name = "partner"
            remote = ["them.example"]
            local = ["ours.example"]
            stanzas-per-second = 50
            [[rule]]
            name = "old"
            remote = ["old.example"]
            require = "certificate-or-dialback"
            tls = "optional"
            [[rule]]
            name = "bank"
            remote = ["bank.example"]
            route = ["direct-tls:192.0.2.7", "xmpp.bank.example:15269"]
            pin = ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
        "#,
        )
        .unwrap();
        for (local, remote, want) in [
            ("ours.example", "evil.example", "not allowed, rule `bad` blocks it."),
            ("ours.example", "x.example", "not allowed, none of the 4 rules speaks of it."),
            (
                "ours.example",
                "them.example",
                "allowed by rule `partner` with a certificate that proves the domain; TLS \
                 required; at most 50 stanzas a second from it.",
            ),
            (
                "other.example",
                "them.example",
                "not allowed, none of the 4 rules speaks of it.\nRule `partner` names \
                 them.example, but not for other.example.",
            ),
            (
                "ours.example",
                "old.example",
                "allowed by rule `old` with a certificate that proves the domain, or dialback; \
                 TLS where the partner offers it.",
            ),
            (
                "ours.example",
                "bank.example",
                "allowed by rule `bank` with a certificate with a pinned key; TLS required; \
                 pinned: \
                 sha256:0000000000000000000000000000000000000000000000000000000000000000; \
                 reached at direct-tls:192.0.2.7:5270, xmpp.bank.example:15269, whatever DNS says.",
            ),
        ] {
            let text =
                policy.explain(&Local(local.parse().unwrap()), &Remote(remote.parse().unwrap()));
            assert_eq!(text, format!("{remote} and {local}: {want}"));
        }
    }

    #[test]
    fn says_which_protocol_a_domain_speaks_and_what_proves_it() {
        let policy: Policy = toml::from_str(
            r#"
            [[rule]]
            name = "anyone"
            remote = ["*"]
            [[sip]]
            name = "bad"
            remote = ["evil.example"]
            action = "block"
            [[sip]]
            name = "lync"
            remote = ["lync.example"]
            mode = "direct"
            host = "edge.lync.example"
            route = "edge.lync.example"
            [[sip]]
            name = "office"
            remote = ["*"]
            mode = "open"
            messages-per-second = 9
        "#,
        )
        .unwrap();
        let local = Local("ours.example".parse().unwrap());
        let said = |name: &str| {
            let text = policy.explain(&local, &Remote(name.parse().unwrap()));
            text.lines().last().unwrap().to_owned()
        };
        assert_eq!(
            said("lync.example"),
            "SIP allowed by `lync` with a certificate for edge.lync.example; reached at \
             edge.lync.example:5061, whatever DNS says. What we send goes by SIP."
        );
        assert_eq!(
            said("any.example"),
            "SIP allowed by `office` with a certificate for the domain (RFC 5922) or the SRV target \
             in it (Microsoft); slowed down as a stranger; at most 9 requests a second from it; sent \
             at most 9 requests a second, by all edges together. What we send goes by XMPP first, and by SIP if no XMPP server is found."
        );
        assert_eq!(said("evil.example"), "SIP not allowed, `bad` blocks it.");
    }
}
