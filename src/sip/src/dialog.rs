use crate::{Message, Method, NameAddr, Uri};

/// What names a dialog (RFC 3261 section 12).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// Theirs; empty for a peer of RFC 2543.
    pub remote_tag: String,
}

/// One dialog, as one of its two ends: ids, sequence numbers, route set, remote target. Plain
/// data that can be stored and read back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dialog {
    /// Its name.
    pub id: DialogId,
    /// Our address, with our tag.
    pub local: NameAddr,
    /// Their address, with their tag.
    pub remote: NameAddr,
    /// The number of the last request we sent in it.
    pub local_cseq: u32,
    /// The number of the last request they sent in it.
    pub remote_cseq: Option<u32>,
    /// Where requests go.
    pub remote_target: Uri,
    /// Routes of our requests, in order, as received (Microsoft's parameters included).
    pub route_set: Vec<NameAddr>,
}

/// Why a request does not belong to a dialog, or none can be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum DialogError {
    #[error("no Contact to send requests to")]
    NoContact,
    #[error("From, To or Call-ID is missing or has no tag")]
    NoName,
    #[error("a sequence number that is not above the last one")]
    OutOfOrder,
}

impl Dialog {
    /// As the one who was asked: from a request and the 2xx (or 101 to 199 with tag) that we answer.
    pub fn accepted(request: &Message, response: &Message) -> Result<Self, DialogError> {
        let _ = (request, response);
        todo!()
    }

    /// As the one who asked: from our request and the answer (or, for a SUBSCRIBE, the NOTIFY that
    /// came first).
    pub fn established(request: &Message, response: &Message) -> Result<Self, DialogError> {
        let _ = (request, response);
        todo!()
    }

    /// The dialog that a message received from the peer belongs to.
    pub fn id_of(received: &Message) -> Option<DialogId> {
        let _ = received;
        todo!()
    }

    /// The next request in this dialog: Request-URI, Route, From, To, Call-ID, CSeq, Max-Forwards.
    /// The caller adds Contact, Via and body. An ACK takes the number of the INVITE.
    pub fn request(&mut self, method: Method) -> Message {
        let _ = method;
        todo!()
    }

    /// Takes in a request from the peer: checks and keeps its number, refreshes the remote target
    /// where RFC 3261 section 12.2.2 says so.
    pub fn receive(&mut self, request: &Message) -> Result<(), DialogError> {
        let _ = request;
        todo!()
    }
}
