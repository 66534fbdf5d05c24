//! Stream management (XEP-0198): counters, the queue of what is not acknowledged yet, resume.
//!
//! All counters are kept without wrapping and shown to the peer modulo 2^32 (XEP-0198, section 4).

mod inbound;
mod outbound;
mod session;

pub use self::inbound::{Arrival, InboundCount};
pub use self::outbound::{AckQueue, Resend, Window};
pub use self::session::Session;

use minidom::Element;
use rxml::{Namespace, xml_ncname};

use crate::{StreamCondition, ns};

/// The peer acknowledged more than it was sent; the stream must end (XEP-0198, section 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the peer acknowledged {h}, but only {sent} were sent")]
pub struct HandledCountTooHigh {
    /// What it said.
    pub h: u32,
    /// What was sent, modulo 2^32.
    pub sent: u32,
}

impl HandledCountTooHigh {
    /// `<stream:error/>` with the condition of XEP-0198, section 4.
    pub(crate) fn to_element(self) -> Element {
        let mut detail = Element::bare("handled-count-too-high", ns::SM);
        for (name, number) in [(xml_ncname!("h"), self.h), (xml_ncname!("send-count"), self.sent)] {
            detail.set_attr(Namespace::NONE, name.to_owned(), number.to_string());
        }
        Element::builder("error", ns::STREAM)
            .append(Element::bare(StreamCondition::UndefinedCondition.as_str(), ns::STREAM_ERRORS))
            .append(detail)
            .build()
    }
}
