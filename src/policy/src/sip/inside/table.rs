use std::cmp::Reverse;
use std::num::NonZeroU16;

use super::embed::TEMPLATES_MAX;
use super::{EmbedTemplate, Hop, RouteBy, RoutePattern};
use crate::sip::SipKind;

/// How many routes may have the same pattern.
const PATTERN_ROUTES_MAX: usize = 100;
/// How many routes there may be.
const ROUTES_MAX: usize = 1000;

/// One static route: which addresses, and where what is for them goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StaticRoute {
    /// Which addresses. A pattern for users means those of domains of the inside.
    pub pattern: RoutePattern,
    /// For a pattern for users: in these domains instead, wherever they are.
    pub within: Option<RoutePattern>,
    /// Where to.
    pub hop: Hop,
    /// What is at the other end: for a pattern that is one domain. As with
    /// [`TrustedPeer::kind`](super::TrustedPeer::kind).
    pub kind: Option<SipKind>,
    /// The lower is tried first.
    pub priority: NonZeroU16,
    /// Among those of one priority: its share.
    pub weight: NonZeroU16,
    /// Whether routes with less specific patterns are tried after those with this one.
    pub less_specific: bool,
    /// Taken out for a while, if false: it is not tried, and does not block.
    pub in_service: bool,
    /// What is for these addresses is refused.
    pub block: bool,
}

/// All static routes, checked, in the order in which their patterns are tried.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteTable {
    /// The most specific pattern first; each with all its routes, by priority.
    groups: Vec<Vec<StaticRoute>>,
}

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection<'a> {
    /// No route speaks of it.
    Elsewhere,
    /// A route refuses it.
    Blocked(&'a StaticRoute),
    /// To these in turn, each once those before it failed. Without any, nothing may carry it at
    /// the moment.
    Via(Vec<&'a StaticRoute>),
}

/// Routes that cannot be used together: every mistake there is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} of the static routes are wrong", .0.len())]
pub struct InvalidRoutes(pub Vec<RouteFault>);

/// One mistake.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "`at` counts the routes from 0")]
pub enum RouteFault {
    /// Too many templates.
    #[error("there are {0} embed templates: at most {TEMPLATES_MAX} are allowed; remove some")]
    Templates(usize),
    /// Too many routes.
    #[error(
        "there are {0} static routes: at most {ROUTES_MAX} are allowed; join some by a wildcard"
    )]
    Routes(usize),
    /// Too many routes of one pattern.
    #[error(
        "the pattern `{pattern}` has more than {PATTERN_ROUTES_MAX} routes: remove some, or put SRV records behind one of them (port 0)"
    )]
    SamePattern { at: usize, pattern: String },
    /// A wildcard inside that no template allows.
    #[error(
        "the pattern `{pattern}` has wildcards inside, which no embed template allows: add a template of this form, or move the wildcards to its end"
    )]
    NoTemplate { at: usize, pattern: String },
}

impl RouteTable {
    /// Checks and orders the routes.
    ///
    /// # Errors
    /// Every mistake, with the route that it is about.
    pub fn new(
        routes: Vec<StaticRoute>,
        templates: &[EmbedTemplate],
    ) -> Result<Self, InvalidRoutes> {
        let mut faults = Vec::new();
        if templates.len() > TEMPLATES_MAX {
            faults.push(RouteFault::Templates(templates.len()));
        }
        if routes.len() > ROUTES_MAX {
            return Err(InvalidRoutes(vec![RouteFault::Routes(routes.len())]));
        }
        let mut groups: Vec<Vec<StaticRoute>> = Vec::new();
        for (at, route) in routes.into_iter().enumerate() {
            let pattern = route.pattern.to_string();
            let allowed = |template: &EmbedTemplate| template.allows(&route.pattern);
            if route.pattern.is_embedded() && !templates.iter().any(allowed) {
                faults.push(RouteFault::NoTemplate { at, pattern: pattern.clone() });
            }
            let same = |group: &&mut Vec<StaticRoute>| {
                group.first().is_some_and(|first| {
                    (&first.pattern, &first.within) == (&route.pattern, &route.within)
                })
            };
            match groups.iter_mut().find(same) {
                Some(group) if group.len() >= PATTERN_ROUTES_MAX => {
                    faults.push(RouteFault::SamePattern { at, pattern });
                }
                Some(group) => group.push(route),
                None => groups.push(vec![route]),
            }
        }
        if !faults.is_empty() {
            return Err(InvalidRoutes(faults));
        }
        for group in &mut groups {
            group.sort_by_key(|route| route.priority);
        }
        let specificity = |route: &StaticRoute| {
            (route.pattern.specificity(), route.within.as_ref().map(RoutePattern::specificity))
        };
        groups.sort_by_key(|group| Reverse(group.first().map(specificity)));
        Ok(Self { groups })
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Every route, in the order in which their patterns are tried.
    pub fn routes(&self) -> impl Iterator<Item = &StaticRoute> {
        self.groups.iter().flatten()
    }

    /// True if a pattern for domains means this one: then it is inside.
    pub(super) fn names(&self, domain: &str) -> bool {
        let by_domain = |route: &&StaticRoute| route.pattern.by() == RouteBy::Domain;
        let firsts = self.groups.iter().filter_map(|group| group.first());
        firsts.filter(by_domain).any(|route| route.pattern.matches(None, domain))
    }

    /// Where what is for this address, its user part without percent-encoding, goes. `pick(max)`
    /// draws from `0..=max`; pass randomness. `is_inside`: a pattern for users alone means those of
    /// this domain, too. Whoever is outside chooses the names of its users.
    ///
    /// The most specific pattern comes first, in it the lowest priority, and among equals each
    /// comes first as often as its weight says. A pattern of which one route blocks refuses, or
    /// ends the list if there is something before it.
    pub(super) fn select(
        &self,
        user: Option<&str>,
        domain: &str,
        is_inside: bool,
        pick: &mut dyn FnMut(u32) -> u32,
    ) -> Selection<'_> {
        let mut found = Vec::new();
        for group in &self.groups {
            if !group.first().is_some_and(|first| first.speaks_of(user, domain, is_inside)) {
                continue;
            }
            if let Some(block) = group.iter().find(|route| route.block && route.in_service) {
                if found.is_empty() {
                    return Selection::Blocked(block);
                }
                break;
            }
            let mut same = Vec::new();
            for route in group.iter().filter(|route| route.in_service) {
                if same.last().is_some_and(|last: &&StaticRoute| last.priority != route.priority) {
                    by_weight(&mut same, &mut found, pick);
                }
                same.push(route);
            }
            by_weight(&mut same, &mut found, pick);
            // One that is out of service still keeps what is for it from going elsewhere.
            if group.iter().any(|route| !route.less_specific) {
                return Selection::Via(found);
            }
        }
        if found.is_empty() { Selection::Elsewhere } else { Selection::Via(found) }
    }
}

impl StaticRoute {
    fn speaks_of(&self, user: Option<&str>, domain: &str, is_inside: bool) -> bool {
        let is_there = match (&self.within, self.pattern.by()) {
            (Some(within), _) => within.matches(None, domain),
            (None, RouteBy::User) => is_inside,
            (None, RouteBy::Domain) => true,
        };
        is_there && self.pattern.matches(user, domain)
    }
}

/// Moves routes of one priority over, each the sooner the more it weighs.
fn by_weight<'a>(
    same: &mut Vec<&'a StaticRoute>,
    found: &mut Vec<&'a StaticRoute>,
    pick: &mut dyn FnMut(u32) -> u32,
) {
    while !same.is_empty() {
        let weight = |route: &&StaticRoute| u32::from(route.weight.get());
        let total: u32 = same.iter().map(weight).sum();
        let mut drawn = pick(total - 1).min(total - 1);
        let chosen = same.iter().position(|route| {
            let own = weight(route);
            let is_it = drawn < own;
            drawn = drawn.saturating_sub(own);
            is_it
        });
        found.push(same.remove(chosen.unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests;
