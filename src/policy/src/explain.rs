use std::fmt::Write as _;

use gatehouse_types::{Domain, Local, Remote};

use crate::{Conditions, Denial, Policy, Require, Tls};

impl Policy {
    /// Says in plain text what holds between two domains, and which rule says so: the same answer
    /// that [`conditions`](Self::conditions) gives.
    pub fn explain(&self, local: &Local<Domain>, remote: &Remote<Domain>) -> String {
        let mut text = format!("{remote} and {local}: ");
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
        text
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
}
