use std::time::Duration;

use crate::play::{Words, duration, within};

/// What a line of a play asks of the nodes and the partner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Nodes begin dialogs with the partner.
    Begin {
        /// How many each.
        count: usize,
        /// Only this one.
        node: Option<String>,
        /// Every other one is not answered yet.
        half: bool,
    },
    /// The answers that were held back.
    AnswerRest,
    /// The partner goes on in dialogs, while the play goes on.
    Talk {
        /// Of this node only.
        node: Option<String>,
        /// How fast.
        per_second: u32,
    },
    /// It stops; every request must have been answered, unless connections broke meanwhile.
    StopTalk {
        /// They did.
        interrupted: bool,
    },
    /// The partner ends every dialog.
    End,
    /// The partner tries tokens that nobody sealed.
    Alter,
    /// The partner asks for new sessions, while the play goes on.
    Ask {
        /// How fast.
        per_second: u32,
    },
    /// It stops; sessions must have been served again in time whatever happened.
    StopAsking {
        /// The longest time without.
        gap: Duration,
    },
    /// New sessions come to go to a node.
    Moved {
        /// Which.
        node: String,
        /// How soon.
        within: Duration,
    },
    /// All new sessions go to a node.
    Stay {
        /// Which.
        node: String,
        /// For how long.
        time: Duration,
    },
    /// New sessions are refused with 503 and Retry-After.
    Refused,
    /// New sessions are taken again.
    Served {
        /// How soon.
        within: Duration,
    },
}

/// The order in a sentence about nodes and their partner, if it is one.
pub(crate) fn order(subject: &str, words: &mut Words) -> Result<Option<Order>, String> {
    let order = if subject == "sessions" {
        sessions(words)?
    } else if subject == "nodes" {
        words.expect(&["begin"])?;
        begin(None, words)?
    } else if words.take(&["begins"]) {
        begin(Some(subject.to_owned()), words)?
    } else if words.take(&["answers", "the", "rest"]) {
        Order::AnswerRest
    } else if words.take(&["talks", "in"]) {
        let node = if words.take(&["all", "dialogs"]) {
            None
        } else {
            words.expect(&["dialogs", "of"])?;
            Some(words.need("a node")?)
        };
        Order::Talk { node, per_second: rate(words)? }
    } else if words.take(&["stops", "talking"]) {
        Order::StopTalk { interrupted: words.take(&["and", "was", "interrupted"]) }
    } else if words.take(&["ends", "all", "dialogs"]) {
        Order::End
    } else if words.take(&["alters", "tokens"]) {
        Order::Alter
    } else if words.take(&["asks", "for", "sessions"]) {
        Order::Ask { per_second: rate(words)? }
    } else if words.take(&["stops", "asking", "and", "was", "never", "without", "for"]) {
        Order::StopAsking { gap: duration(words)? }
    } else {
        return Ok(None);
    };
    Ok(Some(order))
}

fn begin(node: Option<String>, words: &mut Words) -> Result<Order, String> {
    let count = words.number().ok_or("a number is missing")?;
    let count = usize::try_from(count).map_err(|_| "is too much")?;
    words.expect(&["dialogs"])?;
    if node.is_none() {
        words.expect(&["each"])?;
    }
    let half = words.take(&["and", "half", "are", "answered"]);
    Ok(Order::Begin { count, node, half })
}

fn sessions(words: &mut Words) -> Result<Order, String> {
    if words.take(&["are", "refused"]) {
        return Ok(Order::Refused);
    }
    if words.take(&["are", "served"]) {
        return Ok(Order::Served { within: within(words)? });
    }
    if words.take(&["go", "to"]) {
        let node = words.need("a node")?;
        return Ok(Order::Moved { node, within: within(words)? });
    }
    words.expect(&["stay", "at"])?;
    let node = words.need("a node")?;
    words.expect(&["for"])?;
    Ok(Order::Stay { node, time: duration(words)? })
}

fn rate(words: &mut Words) -> Result<u32, String> {
    words.expect(&["at"])?;
    let per_second = words.number().ok_or("a number is missing")?;
    words.expect(&["a", "second"]).map(|()| per_second)
}
