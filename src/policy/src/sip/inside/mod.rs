//! SIP of the inside: which servers may speak to the core, and which requests of ours go to them
//! and not to an edge.

mod embed;
mod hop;
mod pattern;
mod table;
mod trusted;

pub use self::embed::{EmbedTemplate, InvalidTemplate};
pub use self::hop::{Hop, HopProtocol, InvalidHop, NextHop};
pub use self::pattern::{InvalidRoutePattern, RouteBy, RoutePattern};
pub use self::table::{InvalidRoutes, RouteFault, RouteTable, Selection, StaticRoute};
pub use self::trusted::{Evidence, TrustedPeer};

use gatehouse_types::Domain;

use super::SipKind;

/// What the settings say about SIP of the inside. Empty by default: nobody is trusted, and nothing
/// is routed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InsideSip {
    /// Who may speak to the core, first match wins.
    pub trusted: Vec<TrustedPeer>,
    /// Where requests of ours go.
    pub routes: RouteTable,
}

impl InsideSip {
    /// True if nobody is trusted and nothing is routed.
    pub fn is_empty(&self) -> bool {
        self.trusted.is_empty() && self.routes.is_empty()
    }

    /// The peer that showed this, if it is on the list.
    pub fn peer(&self, shown: &Evidence) -> Option<&TrustedPeer> {
        self.trusted.iter().find(|peer| peer.is_shown_by(shown))
    }

    /// True if a trusted peer speaks for this domain: then no partner behind an edge does, and
    /// what is for it never goes to one.
    pub fn is_inside(&self, domain: &Domain) -> bool {
        self.trusted.iter().any(|peer| peer.domains.contains(domain))
    }

    /// True if what is for this address, its user part without percent-encoding, is not for an edge.
    pub fn takes(&self, user: Option<&str>, domain: &Domain) -> bool {
        // Only that nothing was drawn would be seen, and nobody looks.
        self.is_inside(domain) || self.select(user, domain, &mut |_| 0) != Selection::Elsewhere
    }

    /// Which routes what is for this address takes. A pattern for users alone means those of domains
    /// of the inside: which a trusted peer speaks for, or a route names. `pick(max)` draws from
    /// `0..=max`; pass randomness.
    pub fn select(
        &self,
        user: Option<&str>,
        domain: &Domain,
        pick: &mut dyn FnMut(u32) -> u32,
    ) -> Selection<'_> {
        let is_inside = self.is_inside(domain) || self.routes.names(domain.as_str());
        self.routes.select(user, domain.as_str(), is_inside, pick)
    }

    /// The domains of the inside of which the settings say what they are.
    pub fn kinds(&self) -> impl Iterator<Item = (Domain, SipKind)> {
        let trusted = self.trusted.iter().flat_map(|peer| {
            let domains = peer.domains.iter().cloned();
            domains.filter_map(|domain| Some((domain, peer.kind?)))
        });
        let routes = self.routes.routes();
        trusted
            .chain(routes.filter_map(|route| Some((route.pattern.single_domain()?, route.kind?))))
    }

    /// True if some domain is inside, so that a pattern for users alone can mean somebody.
    pub fn has_domains(&self) -> bool {
        self.trusted.iter().any(|peer| !peer.domains.is_empty())
            || self.routes.routes().any(|route| route.pattern.by() == RouteBy::Domain)
    }
}
