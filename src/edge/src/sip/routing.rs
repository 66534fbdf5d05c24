use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_trunk::sip::Node;
use gatehouse_types::{Domain, Local};

/// How often a node is asked whether it lives.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(1);

/// A node that has not answered for so long gets no new session. With the pause between two
/// questions this is well under the five seconds in which new sessions must move.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// How long a node that came back must live before it is preferred again: new sessions must not
/// flap with it.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Which node takes new sessions: the first of an ordered list that is there, answers and serves
/// the domain.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    /// The administrator's order; nodes that are not in it come after, by name.
    order: Vec<Arc<str>>,
    nodes: BTreeMap<Arc<str>, Health>,
    /// Who took the last new session of a domain.
    current: HashMap<Domain, Arc<str>>,
}

#[derive(Debug)]
struct Health {
    /// `None` means all of ours.
    domains: Option<Arc<[Domain]>>,
    /// The last answer; none yet is not healthy.
    answered: Option<Instant>,
    /// Since when every question was answered in time.
    healthy_since: Option<Instant>,
}

impl Routing {
    pub(crate) fn new(order: Vec<Arc<str>>) -> Self {
        Self { order, ..Self::default() }
    }

    /// The links that are up now. A node whose link went is forgotten at once.
    pub(crate) fn links(&mut self, up: Vec<Node>) {
        self.nodes.retain(|name, _| up.iter().any(|node| node.name == *name));
        for node in up {
            let health = self.nodes.entry(node.name).or_insert(Health {
                domains: None,
                answered: None,
                healthy_since: None,
            });
            health.domains = node.domains;
        }
    }

    /// A node answered: anything, because a node that answers lives.
    pub(crate) fn answered(&mut self, node: &str, now: Instant) {
        if let Some(health) = self.nodes.get_mut(node) {
            if !health.is_healthy(now) {
                health.healthy_since = Some(now);
            }
            health.answered = Some(now);
        }
    }

    /// True if this very node can take a new session for `local`.
    pub(crate) fn is_able(&self, node: &str, local: &Local<Domain>, now: Instant) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_healthy(now) && node.serves(local))
    }

    /// Where a new session for `local` goes.
    pub(crate) fn choose(&mut self, local: &Local<Domain>, now: Instant) -> Option<Arc<str>> {
        let current = self.current.get(&local.0);
        let able = |name: &&Arc<str>| self.is_able(name, local, now);
        let listed = self.order.iter();
        let unlisted = self.nodes.keys().filter(|name| !self.order.contains(name));
        let able: Vec<&Arc<str>> = listed.chain(unlisted).filter(able).collect();
        let is_stable = |name: &Arc<str>| {
            let since = self.nodes.get(name).and_then(|node| node.healthy_since);
            since.is_some_and(|since| now.duration_since(since) >= STABLE_AFTER)
        };
        let chosen = able
            .iter()
            .find(|name| Some(**name) == current || is_stable(name))
            .or_else(|| able.first())
            .map(|name| Arc::clone(name))?;
        self.current.insert(local.0.clone(), Arc::clone(&chosen));
        Some(chosen)
    }
}

impl Health {
    fn is_healthy(&self, now: Instant) -> bool {
        self.answered.is_some_and(|answered| now.duration_since(answered) < SILENCE_MAX)
    }

    fn serves(&self, local: &Local<Domain>) -> bool {
        self.domains.as_ref().is_none_or(|domains| domains.contains(&local.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that answer every second, on a clock of their own.
    struct World {
        routing: Routing,
        now: Instant,
        up: Vec<(&'static str, &'static [&'static str])>,
    }

    impl World {
        #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
        fn new(order: &[&str]) -> Self {
            let order = order.iter().map(|name| Arc::from(*name)).collect();
            Self { routing: Routing::new(order), now: Instant::now(), up: Vec::new() }
        }

        fn seconds(&mut self, count: u64) {
            for _ in 0..count {
                self.now += ASK_EVERY;
                let nodes = self.up.iter().map(|(name, domains)| Node {
                    name: Arc::from(*name),
                    domains: (!domains.is_empty())
                        .then(|| domains.iter().map(|domain| domain.parse().unwrap()).collect()),
                });
                self.routing.links(nodes.collect());
                for (name, _) in &self.up {
                    self.routing.answered(name, self.now);
                }
            }
        }

        fn choose(&mut self, domain: &str) -> Option<String> {
            let local = Local(domain.parse().unwrap());
            self.routing.choose(&local, self.now).map(|name| name.to_string())
        }
    }

    #[test]
    fn the_first_healthy_node_of_the_list_takes_new_sessions() {
        let mut world = World::new(&["b", "a"]);
        assert_eq!(world.choose("ours.example"), None, "nobody is there");
        world.up = vec![("a", &[]), ("b", &[])];
        world.seconds(1);
        assert_eq!(world.choose("ours.example").as_deref(), Some("b"));
    }

    #[test]
    fn a_node_that_dies_is_left_and_does_not_flap_when_it_comes_back() {
        let mut world = World::new(&["a", "b"]);
        world.up = vec![("a", &[]), ("b", &[])];
        world.seconds(40);
        assert_eq!(world.choose("ours.example").as_deref(), Some("a"));
        world.up = vec![("b", &[])];
        world.seconds(1);
        assert_eq!(world.choose("ours.example").as_deref(), Some("b"), "the link is gone");
        world.up = vec![("a", &[]), ("b", &[])];
        world.seconds(20);
        assert_eq!(world.choose("ours.example").as_deref(), Some("b"), "it has just come back");
        world.seconds(15);
        assert_eq!(world.choose("ours.example").as_deref(), Some("a"), "it is stable again");
    }

    #[test]
    fn a_node_that_keeps_its_link_and_falls_silent_is_left_within_five_seconds() {
        let mut world = World::new(&["a", "b"]);
        world.up = vec![("a", &[]), ("b", &[])];
        world.seconds(40);
        assert_eq!(world.choose("ours.example").as_deref(), Some("a"));
        for _ in 0..4 {
            world.now += ASK_EVERY;
            world.routing.answered("b", world.now);
        }
        assert_eq!(world.choose("ours.example").as_deref(), Some("b"));
    }

    #[test]
    fn a_session_goes_to_a_node_that_serves_the_domain() {
        let mut world = World::new(&["a", "b"]);
        world.up = vec![("a", &["ours.example"]), ("b", &["other.example"])];
        world.seconds(2);
        assert_eq!(world.choose("ours.example").as_deref(), Some("a"));
        assert_eq!(world.choose("other.example").as_deref(), Some("b"));
        assert_eq!(world.choose("third.example"), None);
    }
}
