use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Domain;

/// An XMPP address, prepared (RFC 6122 profiles) and with its domain in the form of [`Domain`].
///
/// Two addresses are equal exactly when XMPP says they are. `Display` writes the wire form, with
/// the domain in U-labels.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Jid {
    domain: Domain,
    local: Option<Arc<str>>,
    resource: Option<Arc<str>>,
}

/// Text that is not an XMPP address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not an XMPP address: {reason}")]
pub struct InvalidJid {
    text: String,
    reason: String,
}

impl Jid {
    /// The address of a server.
    pub fn of_domain(domain: Domain) -> Self {
        Self { domain, local: None, resource: None }
    }

    /// The address of an account. Fails if `local` cannot be prepared.
    pub fn of_account(local: &str, domain: &Domain) -> Result<Self, InvalidJid> {
        let node = jid::NodePart::new(local).map_err(|error| InvalidJid {
            text: local.chars().take(80).collect(),
            reason: error.to_string(),
        })?;
        Ok(Self { domain: domain.clone(), local: Some(node.as_str().into()), resource: None })
    }

    /// The part before `@`.
    pub fn local(&self) -> Option<&str> {
        self.local.as_deref()
    }

    /// The part between `@` and `/`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The part after the first `/`.
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// True without a resource.
    pub fn is_bare(&self) -> bool {
        self.resource.is_none()
    }

    /// The same address without its resource.
    pub fn to_bare(&self) -> Self {
        Self { resource: None, ..self.clone() }
    }

    /// The same account at `resource`. Fails if `resource` cannot be prepared.
    pub fn with_resource(&self, resource: &str) -> Result<Self, InvalidJid> {
        let part = jid::ResourcePart::new(resource).map_err(|error| InvalidJid {
            text: resource.chars().take(80).collect(),
            reason: error.to_string(),
        })?;
        Ok(Self { resource: Some(part.as_str().into()), ..self.clone() })
    }

    /// True if both are the same but for the resource.
    pub fn same_bare(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local == other.local
    }
}

impl FromStr for Jid {
    type Err = InvalidJid;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid =
            |reason: String| InvalidJid { text: input.chars().take(80).collect(), reason };
        let parsed = jid::Jid::new(input).map_err(|error| invalid(error.to_string()))?;
        let domain = parsed
            .domain()
            .as_str()
            .parse::<Domain>()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            domain,
            local: parsed.node().map(|node| node.as_str().into()),
            resource: parsed.resource().map(|resource| resource.as_str().into()),
        })
    }
}

impl From<Domain> for Jid {
    fn from(domain: Domain) -> Self {
        Self::of_domain(domain)
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = &self.local {
            write!(f, "{local}@")?;
        }
        write!(f, "{}", self.domain.to_unicode())?;
        if let Some(resource) = &self.resource {
            write!(f, "/{resource}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_compare_equal() {
        assert_eq!(jid("JULIET@Capulet.EXAMPLE./Balcony"), jid("juliet@capulet.example/Balcony"));
        assert_eq!(jid("a@bücher.example"), jid("a@xn--bcher-kva.example"));
        assert_ne!(jid("a@b.example/x"), jid("a@b.example/X"));
    }

    #[test]
    fn wire_form_has_u_labels() {
        assert_eq!(jid("a@xn--bcher-kva.example/r").to_string(), "a@bücher.example/r");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "@a.example", "a@", "a b@c.example", "a@192.0.2.1", "a@b.example/", "a@*.example"]
        {
            assert!(text.parse::<Jid>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts() {
        let full = jid("a@b.example/c/d@e");
        assert_eq!(
            (full.local(), full.domain().as_str(), full.resource()),
            (Some("a"), "b.example", Some("c/d@e"))
        );
        assert!(full.to_bare().is_bare() && full.same_bare(&jid("a@b.example")));
    }
}
