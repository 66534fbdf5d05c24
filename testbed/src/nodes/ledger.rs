use std::collections::HashMap;
use std::time::Instant;

use gatehouse_sip::Message;

/// So many of what went astray are kept to be shown.
const SHOWN_MAX: usize = 5;

/// What the nodes began and heard, and whether it belonged to them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Which node began a dialog, by Call-ID.
    owners: HashMap<String, usize>,
    /// Final answers that came back to the transaction that asked, by Call-ID.
    answered: HashMap<String, u32>,
    /// How often each request in a dialog was heard, by Call-ID and sequence number.
    heard: HashMap<(String, u32), u32>,
    /// New sessions as the nodes took them.
    pub(crate) sessions: Vec<(Instant, usize)>,
    /// How much came to a node that it did not belong to, or not as the node knows it.
    pub(crate) astray: u64,
    /// The first of it, in words.
    pub(crate) shown: Vec<String>,
}

impl Ledger {
    /// A node begins a dialog.
    pub(crate) fn begin(&mut self, node: usize, call_id: &str) {
        self.owners.insert(call_id.to_owned(), node);
    }

    /// Which node began a dialog.
    pub(crate) fn owner(&self, call_id: &str) -> Option<usize> {
        self.owners.get(call_id).copied()
    }

    /// A response came to `node`. It must be that of the node's own transaction: one Via is left, and
    /// that has the branch of the request.
    pub(crate) fn response(&mut self, node: usize, message: &Message) {
        let Ok(call_id) = message.call_id() else {
            return self.stray(node, message, "has no Call-ID");
        };
        let vias = message.vias().unwrap_or_default();
        let own = super::node::branch(&call_id);
        if self.owners.get(&call_id) != Some(&node) {
            return self.stray(node, message, "is another node's");
        }
        if vias.len() != 1 || vias.first().and_then(|via| via.branch()) != Some(own.as_str()) {
            return self.stray(node, message, "belongs to no transaction of this node");
        }
        if message.status().is_some_and(gatehouse_sip::Status::is_final) {
            *self.answered.entry(call_id).or_default() += 1;
        }
    }

    /// A request in a dialog came to `node`. It must have begun that dialog, and the Request-URI must
    /// be the Contact that it gave.
    pub(crate) fn in_dialog(&mut self, node: usize, message: &Message, contact: &str) {
        let call_id = message.call_id().unwrap_or_default();
        let uri = message.uri().map(ToString::to_string).unwrap_or_default();
        if self.owners.get(&call_id) != Some(&node) {
            return self.stray(node, message, "is another node's");
        }
        if uri != contact {
            return self.stray(node, message, "has not the Contact that this node gave");
        }
        let number = message.cseq().map(|cseq| cseq.number).unwrap_or_default();
        *self.heard.entry((call_id, number)).or_default() += 1;
    }

    /// A new session came to `node`.
    pub(crate) fn session(&mut self, node: usize, at: Instant) {
        self.sessions.push((at, node));
    }

    /// How many dialogs have had exactly one final answer.
    pub(crate) fn answered_once(&self) -> usize {
        self.answered.values().filter(|count| **count == 1).count()
    }

    /// How many requests in dialogs the nodes heard, counting each once, and how many came twice.
    pub(crate) fn heard(&self) -> (usize, usize) {
        (self.heard.len(), self.heard.values().filter(|count| **count > 1).count())
    }

    /// Whether the owner of the dialog heard this request.
    pub(crate) fn has_heard(&self, call_id: &str, number: u32) -> bool {
        self.heard.contains_key(&(call_id.to_owned(), number))
    }

    fn stray(&mut self, node: usize, message: &Message, why: &str) {
        self.astray += 1;
        if self.shown.len() < SHOWN_MAX {
            let what = message.to_bytes();
            let what = String::from_utf8_lossy(&what);
            let first = what.lines().next().unwrap_or_default();
            let call_id = message.call_id().unwrap_or_default();
            let name = super::node::name(node);
            self.shown.push(format!("`{first}` of {call_id} came to {name} and {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::{contact, parse, request};
    use super::*;

    fn bye(call_id: &str, uri: &str) -> Message {
        let text = format!(
            "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/TLS x;branch=z9hG4bKy\r\nMax-Forwards: 9\r\n\
             From: <sip:b@them.example>;tag=t\r\nTo: <sip:a@ours.example>;tag=f\r\n\
             Call-ID: {call_id}\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        parse(&text).unwrap()
    }

    #[test]
    fn what_comes_to_another_node_or_by_another_name_is_astray() {
        let mut ledger = Ledger::default();
        ledger.begin(1, "c1");
        let own = contact(1, "c1");
        ledger.in_dialog(1, &bye("c1", &own), &own);
        assert_eq!((ledger.astray, ledger.heard()), (0, (1, 0)));
        ledger.in_dialog(1, &bye("c1", &own), &own);
        assert_eq!((ledger.astray, ledger.heard()), (0, (1, 1)), "it came twice");
        for (node, call_id, uri) in
            [(0, "c1", own.as_str()), (1, "c2", &own), (1, "c1", "sip:x@y.example")]
        {
            let before = ledger.astray;
            ledger.in_dialog(node, &bye(call_id, uri), &own);
            assert_eq!(ledger.astray, before + 1, "{node} {call_id} {uri}");
        }
    }

    #[test]
    fn an_answer_belongs_to_one_transaction_of_one_node() {
        let mut ledger = Ledger::default();
        ledger.begin(1, "c1");
        let asked = request(1, "INVITE", "c1", ("ours.example", "them.example")).unwrap();
        let answer = Message::response_to(&asked, gatehouse_sip::Status::of(200), Some("t"));
        ledger.response(1, &answer);
        assert_eq!((ledger.astray, ledger.answered_once()), (0, 1));
        ledger.response(2, &answer);
        assert_eq!(ledger.astray, 1, "it came to another node");
        let other = request(1, "INVITE", "c2", ("ours.example", "them.example")).unwrap();
        let mut mixed = Message::response_to(&other, gatehouse_sip::Status::of(200), Some("t"));
        mixed.headers.set(gatehouse_sip::HeaderName::CallId, "c1").unwrap();
        ledger.response(1, &mixed);
        assert_eq!(ledger.astray, 2, "it has another transaction's branch");
    }
}
