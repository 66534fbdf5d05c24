//! Where a stanza for a local user goes (RFC 6121, section 8.5), as a pure decision.

use gatehouse_xmpp::{Stanza, StanzaKind};

/// What of a stanza decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sort {
    /// A message of type `chat`.
    Chat,
    /// A message of type `normal` (also: of no or unknown type).
    Normal,
    Groupchat,
    Headline,
    MessageError,
    /// `get` and `set`.
    Request,
    /// `result` and `error`.
    Answer,
    /// Presence that says available, unavailable, or error.
    Presence,
}

/// Whom of the user's resources the stanza can reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reach {
    /// To a full address.
    pub(crate) full: bool,
    /// That very resource is connected.
    pub(crate) resource: bool,
    /// Some resource is available with a priority that is not negative.
    pub(crate) willing: bool,
    /// Some resource is available.
    pub(crate) available: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// To the resource that is addressed.
    Resource,
    /// To all resources that are available with a priority that is not negative.
    Willing,
    /// To all available resources.
    Available,
    /// Keep it until the user is back.
    Store,
    /// The server answers for the user.
    Serve,
    /// `service-unavailable`.
    Refuse,
    /// Nothing, silently.
    Drop,
}

impl Sort {
    /// Sorts a stanza; subscription stanzas and probes never come here.
    pub(crate) fn of(stanza: &Stanza) -> Self {
        match (stanza.kind(), stanza.type_()) {
            (StanzaKind::Message, Some("groupchat")) => Self::Groupchat,
            (StanzaKind::Message, Some("headline")) => Self::Headline,
            (StanzaKind::Message, Some("error")) => Self::MessageError,
            // RFC 6121, section 5.2.2: an unknown type is treated as `normal`.
            (StanzaKind::Message, Some("chat")) => Self::Chat,
            (StanzaKind::Message, _) => Self::Normal,
            (StanzaKind::Iq, Some("get" | "set")) => Self::Request,
            (StanzaKind::Iq, _) => Self::Answer,
            (StanzaKind::Presence, _) => Self::Presence,
        }
    }
}

/// Decides. The clauses are those of RFC 6121, section 8.5; a message to the bare address goes to
/// every willing resource.
pub(crate) fn decide(sort: Sort, reach: Reach) -> Decision {
    // 8.5.3.1: a connected resource gets what is addressed to it.
    if reach.full && reach.resource {
        return Decision::Resource;
    }
    match sort {
        // 8.5.3.2.1: a chat goes on with the user when its resource is gone; the author of a normal
        // message is told.
        Sort::Normal if reach.full => Decision::Refuse,
        // 8.5.2.1.1 and 8.5.2.2.1
        Sort::Chat | Sort::Normal if reach.willing => Decision::Willing,
        Sort::Chat | Sort::Normal => Decision::Store,
        Sort::Groupchat => Decision::Refuse,
        Sort::Headline if reach.willing && !reach.full => Decision::Willing,
        Sort::Headline | Sort::MessageError => Decision::Drop,
        // 8.5.2.1.3 and 8.5.3.2.3
        Sort::Request if reach.full => Decision::Refuse,
        Sort::Request => Decision::Serve,
        Sort::Answer => Decision::Drop,
        // 8.5.2.1.2 and 8.5.3.2.2
        Sort::Presence if reach.available && !reach.full => Decision::Available,
        Sort::Presence => Decision::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SORTS: [Sort; 8] = [
        Sort::Chat,
        Sort::Normal,
        Sort::Groupchat,
        Sort::Headline,
        Sort::MessageError,
        Sort::Request,
        Sort::Answer,
        Sort::Presence,
    ];

    /// RFC 6121, table 1 (section 8.5.4), with every situation as a row and every sort as a column.
    #[test]
    fn decision_table() {
        let nobody = Reach { full: false, resource: false, willing: false, available: false };
        let shy = Reach { available: true, ..nobody };
        let online = Reach { willing: true, ..shy };
        let rows = [
            ("bare, nobody", nobody),
            ("bare, negative only", shy),
            ("bare, online", online),
            ("full, nobody", Reach { full: true, ..nobody }),
            ("full, others negative", Reach { full: true, ..shy }),
            ("full, others online", Reach { full: true, ..online }),
            ("full, connected", Reach { full: true, resource: true, ..nobody }),
            ("full, online", Reach { full: true, resource: true, ..online }),
        ];
        let mut table = String::from("\n");
        for (name, reach) in rows {
            table += &format!("{name}:");
            for sort in SORTS {
                table += &format!(" {:?}", decide(sort, reach));
            }
            table += "\n";
        }
        assert_eq!(
            table,
            "
bare, nobody: Store Store Refuse Drop Drop Serve Drop Drop
bare, negative only: Store Store Refuse Drop Drop Serve Drop Available
bare, online: Willing Willing Refuse Willing Drop Serve Drop Available
full, nobody: Store Refuse Refuse Drop Drop Refuse Drop Drop
full, others negative: Store Refuse Refuse Drop Drop Refuse Drop Drop
full, others online: Willing Refuse Refuse Drop Drop Refuse Drop Drop
full, connected: Resource Resource Resource Resource Resource Resource Resource Resource
full, online: Resource Resource Resource Resource Resource Resource Resource Resource
"
        );
    }
}
