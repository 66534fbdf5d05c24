use gatehouse_types::{Domain, Local, Remote};

use crate::{Action, Denial, Pattern, Policy};

/// Which protocol a remote domain speaks with one of ours: one or the other, never both at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// XMPP only.
    Xmpp,
    /// SIP only.
    Sip,
    /// Nobody said: XMPP first, then SIP.
    XmppThenSip,
}

impl Policy {
    /// Which protocol `remote` speaks with `local`. The narrower row decides: a domain that a
    /// `[[sip]]` row names is SIP although a `[[rule]]` says `*`, and the other way round.
    pub fn protocol(
        &self,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> Result<Protocol, Denial> {
        let rule = self.rules.iter().find(|rule| rule.speaks_of(local, remote));
        let row = self.sip.iter().find(|row| row.speaks_of(local, remote));
        let denied =
            |rule: &str| Err(Denial::Blocked { remote: remote.clone(), rule: rule.to_owned() });
        match (rule, row) {
            (Some(rule), _) if rule.action == Action::Block => denied(&rule.name),
            (_, Some(row)) if row.action == Action::Block => denied(&row.name),
            (Some(_), None) => Ok(Protocol::Xmpp),
            (None, Some(_)) => Ok(Protocol::Sip),
            (Some(rule), Some(row)) => {
                let (xmpp, sip) = (width(&rule.remote, remote), width(&row.remote, remote));
                Ok(match xmpp.cmp(&sip) {
                    std::cmp::Ordering::Less => Protocol::Xmpp,
                    std::cmp::Ordering::Greater => Protocol::Sip,
                    std::cmp::Ordering::Equal => Protocol::XmppThenSip,
                })
            }
            (None, None) => Err(Denial::NoRule { remote: remote.clone() }),
        }
    }
}

/// How widely a list speaks of a domain: by its name, by one of its parents (the nearer, the
/// narrower), by all.
fn width(patterns: &[Pattern], remote: &Remote<Domain>) -> usize {
    let matching = patterns.iter().filter(|pattern| pattern.matches(&remote.0));
    let width = |pattern: &Pattern| match pattern {
        Pattern::Exact(_) => 0,
        // 253 is the longest domain.
        Pattern::Below(parent) => 254_usize.saturating_sub(parent.as_str().len()),
        Pattern::Any => usize::MAX,
    };
    matching.map(width).min().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [[rule]]
        name = "banned"
        remote = ["evil.example"]
        action = "block"

        [[rule]]
        name = "an XMPP partner"
        remote = ["chat.sip.example"]

        [[rule]]
        name = "everybody"
        remote = ["*"]

        [[sip]]
        name = "not these"
        remote = ["worse.example"]
        action = "block"

        [[sip]]
        name = "Lync partners"
        remote = ["lync.example", "*.sip.example"]

        [[sip]]
        name = "hosted"
        remote = ["*"]
        mode = "provider"
        host = "sipfed.online.example"
    "#;

    fn policy() -> Policy {
        toml::from_str(POLICY).unwrap()
    }

    fn local() -> Local<Domain> {
        Local("ours.example".parse().unwrap())
    }

    fn remote(name: &str) -> Remote<Domain> {
        Remote(name.parse().unwrap())
    }

    #[test]
    fn the_narrower_row_decides_and_a_block_always_wins() {
        let rows = [
            ("lync.example", Ok(Protocol::Sip)),
            ("deep.sip.example", Ok(Protocol::Sip)),
            ("chat.sip.example", Ok(Protocol::Xmpp)),
            ("sip.example", Ok(Protocol::XmppThenSip)),
            ("anybody.example", Ok(Protocol::XmppThenSip)),
            ("evil.example", Err("blocked")),
            ("worse.example", Err("blocked")),
        ];
        for (name, expected) in rows {
            let protocol = policy().protocol(&local(), &remote(name));
            assert_eq!(
                protocol.as_ref().map_err(Denial::as_str),
                expected.as_ref().map_err(|e| *e)
            );
        }
        assert!(policy().sip_conditions(&local(), &remote("evil.example")).is_err());
        assert!(policy().sip_conditions(&local(), &remote("worse.example")).is_err());
    }

    #[test]
    fn nothing_is_said_of_sip_where_no_row_stands() {
        let policy = Policy::open_with_certificate();
        assert_eq!(policy.protocol(&local(), &remote("any.example")), Ok(Protocol::Xmpp));
        let denial = policy.sip_conditions(&local(), &remote("any.example")).unwrap_err();
        assert_eq!(denial.as_str(), "no-rule");
        let silent = Policy::default().protocol(&local(), &remote("any.example"));
        assert_eq!(silent.unwrap_err().as_str(), "no-rule");
    }

    #[test]
    fn the_mode_decides_what_proves() {
        let conditions = policy().sip_conditions(&local(), &remote("tenant.example")).unwrap();
        let grounds = conditions.grounds(&[]);
        assert!(grounds.provider.is_some() && grounds.direct.is_none());
        assert!(!grounds.rfc5922 && !grounds.microsoft && conditions.needs_srv());
        let conditions = policy().sip_conditions(&local(), &remote("lync.example")).unwrap();
        let grounds = conditions.grounds(&[]);
        assert!(grounds.provider.is_none() && grounds.rfc5922 && grounds.microsoft);
    }
}
