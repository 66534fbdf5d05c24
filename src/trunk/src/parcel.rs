use gatehouse_types::Domain;
use gatehouse_xmpp::Stanza;

use crate::Receipt;

/// Whom order is kept between: the two domains of a stanza.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Pair {
    pub(crate) from: Option<Domain>,
    pub(crate) to: Option<Domain>,
}

impl Pair {
    pub(crate) fn of(stanza: &Stanza) -> Self {
        Self {
            from: stanza.from().map(|jid| jid.domain().clone()),
            to: stanza.to().map(|jid| jid.domain().clone()),
        }
    }
}

/// A stanza that was taken and is not acknowledged yet, with its place in the budget.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) stanza: Stanza,
    pub(crate) pair: Pair,
    /// The same for no other.
    pub(crate) number: u64,
    /// With its place in the budget. Given back when the parcel is done with, whatever became of it.
    pub(crate) receipt: Receipt,
}

impl Parcel {
    pub(crate) fn new(stanza: Stanza, number: u64, receipt: Receipt) -> Self {
        Self { pair: Pair::of(&stanza), stanza, number, receipt }
    }

    /// What a node is told of its own stanza, by the connection that brought it. It belongs to no
    /// pair: whoever serves the domain for which that node may not speak must not wait for it.
    pub(crate) fn answer(stanza: Stanza) -> Self {
        let pair = Pair { from: None, to: None };
        // No number of a parcel that was placed: those begin with one.
        Self { pair, stanza, number: 0, receipt: Receipt::default() }
    }
}

impl AsRef<Stanza> for Parcel {
    fn as_ref(&self) -> &Stanza {
        &self.stanza
    }
}

/// About how many KiB a stanza takes, at least one.
pub(crate) fn weigh(stanza: &Stanza) -> u32 {
    u32::try_from(stanza.weight() / 1024).unwrap_or(u32::MAX).saturating_add(1)
}
