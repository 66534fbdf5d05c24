use gatehouse_types::Domain;
use gatehouse_xmpp::{Element, Node, Stanza};
use tokio::sync::OwnedSemaphorePermit;

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
    /// Given back when the parcel is done with, whatever became of it.
    _room: OwnedSemaphorePermit,
}

impl Parcel {
    pub(crate) fn new(stanza: Stanza, room: OwnedSemaphorePermit) -> Self {
        Self { pair: Pair::of(&stanza), stanza, _room: room }
    }
}

impl AsRef<Stanza> for Parcel {
    fn as_ref(&self) -> &Stanza {
        &self.stanza
    }
}

/// About how many KiB a stanza takes, at least one.
pub(crate) fn weigh(stanza: &Stanza) -> u32 {
    let (mut bytes, mut left) = (0_usize, vec![stanza.element()]);
    while let Some(element) = left.pop() {
        bytes += own_bytes(element);
        left.extend(element.children());
    }
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1)
}

fn own_bytes(element: &Element) -> usize {
    let attributes: usize =
        element.attrs().iter().map(|((_, name), value)| name.len() + value.len()).sum();
    let texts: usize = element
        .nodes()
        .map(|node| match node {
            Node::Text(text) => text.len(),
            Node::Element(_) => 0,
        })
        .sum();
    2 * element.name().len() + attributes + texts
}
