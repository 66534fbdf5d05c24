use std::fmt;

use gatehouse_identity::CertificateNames;
use gatehouse_types::Domain;
use serde::Serialize;

/// The kind of a name in subjectAltName.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum NameKind {
    /// dNSName.
    #[serde(rename = "dNSName")]
    Dns,
    /// SRVName (RFC 4985).
    #[serde(rename = "SRVName")]
    Srv,
    /// id-on-xmppAddr (RFC 6120, section 13.7.1.4).
    #[serde(rename = "xmppAddr")]
    XmppAddr,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dns => "dNSName",
            Self::Srv => "SRVName",
            Self::XmppAddr => "xmppAddr",
        })
    }
}

/// One name that a certificate shall hold.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PlannedName {
    /// Its kind.
    pub kind: NameKind,
    /// The name.
    pub value: String,
    /// Why it is there, for a person.
    pub reason: &'static str,
}

/// What may be asked of a plan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PlanOptions {
    /// Adds id-on-xmppAddr. Off by default: ejabberd (seen in 23.01 and 24.12) drops the stream of
    /// a peer whose certificate has one, and every XMPP server looks at dNSName too.
    pub xmpp_addr: bool,
}

/// The names that one certificate shall hold.
///
/// `Display` writes one line per name: kind, name, reason. `Serialize` gives the same to machines.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NamePlan {
    domain: Domain,
    names: Vec<PlannedName>,
}

impl NamePlan {
    /// The certificate of the IM domain `domain`, served by the edge `edge_host`.
    pub fn for_domain(domain: &Domain, edge_host: &Domain, options: PlanOptions) -> Self {
        let mut plan = Self { domain: domain.clone(), names: Vec::new() };
        plan.add(NameKind::Dns, domain.to_string(), "XMPP servers and clients look for it");
        plan.add(NameKind::Dns, format!("conference.{domain}"), "rooms");
        plan.add(NameKind::Dns, format!("sip.{domain}"), "SIP partners and clients look for it");
        plan.add(
            NameKind::Dns,
            edge_host.to_string(),
            "the edge's host: SIP partners compare the SRV target",
        );
        plan.add(
            NameKind::Srv,
            format!("_xmpp-server.{domain}"),
            "XMPP server, and nothing else (RFC 6120, 13.7.1.2)",
        );
        plan.add(
            NameKind::Srv,
            format!("_xmpp-client.{domain}"),
            "XMPP service for clients (RFC 6120, 13.7.1.2)",
        );
        if options.xmpp_addr {
            plan.add(
                NameKind::XmppAddr,
                domain.to_string(),
                "asked for in the settings (ejabberd peers will not connect)",
            );
        }
        plan
    }

    /// Adds the host that SIP partners see, where it is not `sip.` and the domain, which stands in
    /// every plan.
    #[must_use]
    pub fn with_sip_host(mut self, host: &Domain) -> Self {
        self.add(NameKind::Dns, host.to_string(), "SIP partners compare the SRV target with it");
        self
    }

    /// The certificate of the trunk node `name`.
    pub(crate) fn for_node(name: &Domain) -> Self {
        let mut plan = Self { domain: name.clone(), names: Vec::new() };
        plan.add(NameKind::Dns, name.to_string(), "the node's name on the trunk");
        plan
    }

    /// Whose certificate it is.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The names, in the order they are written.
    pub fn names(&self) -> &[PlannedName] {
        &self.names
    }

    /// The planned names that `names` lacks.
    pub fn missing_in(&self, names: &CertificateNames) -> Vec<&PlannedName> {
        self.names
            .iter()
            .filter(|planned| !of_kind(names, planned.kind).contains(&planned.value))
            .collect()
    }

    /// True if `names` has every planned name and no other.
    pub(crate) fn is_met_by(&self, names: &CertificateNames) -> bool {
        let count = names.dns.len() + names.srv.len() + names.xmpp.len() + names.uri.len();
        count == self.names.len() && self.missing_in(names).is_empty()
    }

    /// Adds a name unless it is there, as when the edge's host is the domain itself.
    fn add(&mut self, kind: NameKind, value: String, reason: &'static str) {
        if !self.names.iter().any(|name| name.kind == kind && name.value == value) {
            self.names.push(PlannedName { kind, value, reason });
        }
    }
}

fn of_kind(names: &CertificateNames, kind: NameKind) -> &[String] {
    match kind {
        NameKind::Dns => &names.dns,
        NameKind::Srv => &names.srv,
        NameKind::XmppAddr => &names.xmpp,
    }
}

impl fmt::Display for NamePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.names.iter().map(|name| name.value.len()).max().unwrap_or(0);
        for name in &self.names {
            writeln!(f, "{:<8}  {:<width$}  {}", name.kind, name.value, name.reason)?;
        }
        Ok(())
    }
}
