use std::sync::Arc;

use gatehouse_types::Domain;

/// A node of the other role that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its name on the trunk, which its certificate proves.
    pub name: Domain,
    /// The IM domains that it serves, as far as we let it: empty for an edge, which serves all of
    /// ours.
    pub domains: Arc<[Domain]>,
}

/// What of an announcement counts.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Announced {
    /// Domains that this node may not serve: they do not count.
    pub(crate) foreign: Vec<Domain>,
    /// Domains that another node announces, too, with the one that gets what is for them.
    pub(crate) shared: Vec<(Domain, Domain)>,
    /// True if the log should hear of the foreign ones.
    pub(crate) is_news: bool,
}
