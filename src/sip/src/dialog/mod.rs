mod stored;
#[cfg(test)]
mod tests;

use crate::{HeaderName, Message, Method, NameAddr, Start, Uri};

pub use self::stored::InvalidStored;

/// Routes kept of one dialog; a longer set is refused.
const ROUTES_MAX: usize = 32;

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
    /// The number of the last request we sent in it; 0 before the first.
    pub local_cseq: u32,
    /// The number of the last request they sent in it.
    pub remote_cseq: Option<u32>,
    /// Where requests go.
    pub remote_target: Uri,
    /// Routes of our requests, in order, as received (Microsoft's parameters included).
    pub route_set: Vec<NameAddr>,
    /// The number of our INVITE, which its ACK takes.
    pub invite_cseq: Option<u32>,
    /// No 2xx yet (section 12.1).
    pub early: bool,
}

/// Why a request does not belong to a dialog, or none can be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum DialogError {
    #[error("no Contact to send requests to")]
    NoContact,
    #[error("From, To or Call-ID is missing or has no tag")]
    NoName,
    #[error("the message belongs to another dialog")]
    NotOurs,
    #[error("a sequence number that is not above the last one")]
    OutOfOrder,
    #[error("more than {ROUTES_MAX} routes, or one that cannot be read")]
    Routes,
}

impl Dialog {
    /// As the one who was asked: from a request and the 2xx (or 101 to 199 with tag) that we answer.
    ///
    /// # Errors
    /// What a dialog needs is missing.
    pub fn accepted(request: &Message, response: &Message) -> Result<Self, DialogError> {
        let remote = request.from().map_err(|_| DialogError::NoName)?;
        let local = response.to().map_err(|_| DialogError::NoName)?;
        let local_tag = local.tag().ok_or(DialogError::NoName)?.to_owned();
        let id = DialogId {
            call_id: request.call_id().map_err(|_| DialogError::NoName)?,
            local_tag,
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
        };
        let cseq = request.cseq().map_err(|_| DialogError::NoName)?;
        Ok(Self {
            id,
            local,
            remote,
            local_cseq: 0,
            remote_cseq: Some(cseq.number),
            remote_target: target_of(request).ok_or(DialogError::NoContact)?,
            // Section 12.1.1: in the order of the request.
            route_set: routes_of(request)?,
            invite_cseq: None,
            early: response.status().is_some_and(crate::Status::is_provisional),
        })
    }

    /// As the one who asked: from our request and the answer (or, for a SUBSCRIBE, the NOTIFY that
    /// came first).
    ///
    /// # Errors
    /// What a dialog needs is missing, or the message answers another request.
    pub fn established(request: &Message, response: &Message) -> Result<Self, DialogError> {
        let is_notify = matches!(response.start, Start::Request { .. });
        let name = |result: Result<NameAddr, _>| result.map_err(|_| DialogError::NoName);
        let local = name(request.from())?;
        let (theirs, ours) = if is_notify {
            (name(response.from())?, name(response.to())?)
        } else {
            (name(response.to())?, name(response.from())?)
        };
        let call_id = request.call_id().map_err(|_| DialogError::NoName)?;
        let same_call = response.call_id().is_ok_and(|other| other == call_id);
        if !same_call || ours.tag() != local.tag() {
            return Err(DialogError::NotOurs);
        }
        let cseq = request.cseq().map_err(|_| DialogError::NoName)?;
        let id = DialogId {
            call_id,
            local_tag: local.tag().ok_or(DialogError::NoName)?.to_owned(),
            remote_tag: theirs.tag().unwrap_or_default().to_owned(),
        };
        let mut route_set = routes_of(response)?;
        if !is_notify {
            // Section 12.1.2: in reverse of the answer.
            route_set.reverse();
        }
        Ok(Self {
            id,
            local,
            remote: theirs,
            local_cseq: cseq.number,
            remote_cseq: response.cseq().ok().filter(|_| is_notify).map(|cseq| cseq.number),
            remote_target: target_of(response).ok_or(DialogError::NoContact)?,
            route_set,
            invite_cseq: (cseq.method == Method::Invite).then_some(cseq.number),
            early: response.status().is_some_and(crate::Status::is_provisional),
        })
    }

    /// The dialog that a request received from the peer belongs to; `None` without tags.
    pub fn id_of(received: &Message) -> Option<DialogId> {
        let (from, to) = (received.from().ok()?, received.to().ok()?);
        let (local, remote) = match received.start {
            Start::Request { .. } => (to, from),
            Start::Response { .. } => (from, to),
        };
        Some(DialogId {
            call_id: received.call_id().ok()?,
            local_tag: local.tag()?.to_owned(),
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
        })
    }

    /// The next request in this dialog: Request-URI, Route, From, To, Call-ID, CSeq, Max-Forwards.
    /// The caller adds Contact, Via and body. An ACK takes the number of the INVITE.
    pub fn request(&mut self, method: Method) -> Message {
        let number = match (&method, self.invite_cseq) {
            (Method::Ack | Method::Cancel, Some(number)) => number,
            _ => {
                // Section 8.1.1.5: below 2^31.
                self.local_cseq =
                    if self.local_cseq >= i32::MAX as u32 { 1 } else { self.local_cseq + 1 };
                self.local_cseq
            }
        };
        if method == Method::Invite {
            self.invite_cseq = Some(number);
        }
        let (uri, routes) = self.path();
        let mut request = Message::request(method.clone(), uri);
        let headers = [
            (HeaderName::MaxForwards, "70".to_owned()),
            (HeaderName::From, self.local.to_string()),
            (HeaderName::To, self.remote.to_string()),
            (HeaderName::CallId, self.id.call_id.clone()),
            (HeaderName::CSeq, format!("{number} {method}")),
        ];
        let routes = routes.into_iter().map(|route| (HeaderName::Route, route));
        for (name, value) in routes.chain(headers) {
            // All of it was read from headers, or is ours: no line break is in it.
            let _ = request.headers.push(name, value);
        }
        request
    }

    /// Request-URI and Route (section 12.2.1.1).
    fn path(&self) -> (Uri, Vec<String>) {
        let routes = self.route_set.iter().map(ToString::to_string);
        match self.route_set.first() {
            // A strict router: it stands in the Request-URI, the target at the end.
            Some(first) if !first.uri.params.has("lr") => {
                let target = NameAddr::new(self.remote_target.clone()).to_string();
                (request_uri(&first.uri), routes.skip(1).chain([target]).collect())
            }
            _ => (request_uri(&self.remote_target), routes.collect()),
        }
    }

    /// Takes in a request from the peer: checks and keeps its number, refreshes the remote target
    /// where RFC 3261 section 12.2.2 says so.
    ///
    /// # Errors
    /// It belongs to another dialog (481), or its number is not above the last one (500).
    pub fn receive(&mut self, request: &Message) -> Result<(), DialogError> {
        if Self::id_of(request).as_ref() != Some(&self.id) {
            return Err(DialogError::NotOurs);
        }
        let cseq = request.cseq().map_err(|_| DialogError::NoName)?;
        // An ACK and a CANCEL repeat the number of what they are about.
        if matches!(cseq.method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        if self.remote_cseq.is_some_and(|last| cseq.number <= last) {
            return Err(DialogError::OutOfOrder);
        }
        self.remote_cseq = Some(cseq.number);
        if refreshes_target(&cseq.method)
            && let Some(target) = target_of(request)
        {
            self.remote_target = target;
        }
        Ok(())
    }

    /// Takes in an answer to a request of ours: a 2xx confirms an early dialog, which takes its
    /// route set anew (section 13.2.2.4), and refreshes the remote target.
    ///
    /// # Errors
    /// It belongs to another dialog, or its routes cannot be read.
    pub fn receive_response(&mut self, response: &Message) -> Result<(), DialogError> {
        if Self::id_of(response).as_ref() != Some(&self.id) {
            return Err(DialogError::NotOurs);
        }
        if !response.status().is_some_and(crate::Status::is_success) {
            return Ok(());
        }
        if self.early {
            // What is refused changes nothing.
            let routes = routes_of(response)?;
            self.early = false;
            self.route_set = routes;
            self.route_set.reverse();
        }
        if response.method().is_some_and(|method| refreshes_target(&method))
            && let Some(target) = target_of(response)
        {
            self.remote_target = target;
        }
        Ok(())
    }
}

/// Without what may not stand in a Request-URI, whatever a peer's Contact or Record-Route holds
/// (section 19.1.1).
fn request_uri(uri: &Uri) -> Uri {
    let mut uri = uri.clone();
    uri.headers = None;
    uri.params.remove("method");
    uri
}

/// RFC 3261 section 12.2, RFC 3311, RFC 6665 section 4.4.1.
fn refreshes_target(method: &Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer
    )
}

fn target_of(message: &Message) -> Option<Uri> {
    Some(message.contacts().ok()?.into_iter().next()?.uri)
}

fn routes_of(message: &Message) -> Result<Vec<NameAddr>, DialogError> {
    let routes = message.record_routes().map_err(|_| DialogError::Routes)?;
    if routes.len() > ROUTES_MAX { Err(DialogError::Routes) } else { Ok(routes) }
}
