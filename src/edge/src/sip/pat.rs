//! Port address translation without ports: what a partner sees is one host and sealed text, and
//! what it sends back finds the node by it (docs/decisions/0009).

use aws_lc_rs::{constant_time, hmac};
use gatehouse_sip::{
    DialogToken, HeaderName, InvalidMessage, InvalidSecrets, InvalidToken, Message, ReturnToken,
    Status, TokenKeys, TokenTooLong, Via, proxy,
};
use gatehouse_types::{Domain, Remote};

use super::face::Face;
use super::scrub;
use super::shared::Pair;

/// What every branch of RFC 3261 begins with.
pub(crate) const MAGIC_COOKIE: &str = "z9hG4bK";
/// The parameter of our Via towards a node that counts the partner's Record-Routes.
const RECORDED: &str = "rr";

/// Seals what leaves and opens what returns.
pub(crate) struct Pat {
    keys: TokenKeys,
    /// Makes nonces from what is sealed: the CANCEL of an INVITE must get the same branch, and a
    /// Contact must not change from message to message.
    nonces: hmac::Key,
    /// Bind what a node is given to that node; of each secret, newest first.
    branches: Vec<hmac::Key>,
}

/// A message that goes out, or why it cannot.
type Rewritten = Result<Message, InvalidMessage>;

impl Pat {
    /// From the secrets that all edges share, newest first.
    pub(crate) fn new(secrets: &[&[u8]]) -> Result<Self, InvalidSecrets> {
        let newest = secrets.first().copied().unwrap_or_default();
        let derive = |secret: &[u8], purpose: &[u8]| {
            let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        Ok(Self {
            keys: TokenKeys::derive(secrets)?,
            nonces: derive(newest, b"PAT nonces"),
            branches: secrets.iter().map(|secret| derive(secret, b"PAT branches")).collect(),
        })
    }

    /// A request of a node for a partner.
    pub(crate) fn request_out(
        &self,
        mut request: Message,
        node: &str,
        partner: &Remote<Domain>,
        face: &Face,
    ) -> Rewritten {
        let starts = request.to()?.tag().is_none();
        if starts {
            // No host of the inside in what stays the name of the dialog on both sides; and there
            // is no route yet that the partner gave.
            if request.call_id()?.contains('@') {
                return Err(invalid("Call-ID", "must not name a host"));
            }
            request.headers.remove(&HeaderName::Route);
        }
        let vias = scrub::take(&mut request.headers, &HeaderName::Via);
        let token = ReturnToken { node: node.to_owned(), vias };
        let nonce = self.nonce(b"return", node, &token.vias, partner);
        let sealed = self.keys.seal_return(&token, partner.0.as_str(), nonce).map_err(too_long)?;
        self.seal_contacts(&mut request, node, partner, face)?;
        scrub::scrub(&mut request, face)?;
        proxy::count_down(&mut request)?;
        let via = face.via(&format!("{MAGIC_COOKIE}{sealed}"));
        request.headers.push_first(HeaderName::Via, via.to_string())?;
        Ok(request)
    }

    /// A partner's response to it: gives the node and the response as the node expects it.
    pub(crate) fn response_in(
        &self,
        mut response: Message,
        partner: &Remote<Domain>,
    ) -> Result<(String, Message), InvalidToken> {
        let vias = response.vias().map_err(|_| InvalidToken)?;
        // RFC 3261 section 18.1.2: ours is the only one, because we took the others off.
        let [via] = vias.as_slice() else { return Err(InvalidToken) };
        let sealed = via
            .branch()
            .and_then(|branch| branch.strip_prefix(MAGIC_COOKIE))
            .ok_or(InvalidToken)?;
        let token = self.keys.open_return(sealed, partner.0.as_str())?;
        response.headers.remove(&HeaderName::Via);
        for via in token.vias.into_iter().rev() {
            response.headers.push_first(HeaderName::Via, via).map_err(|_| InvalidToken)?;
        }
        Ok((token.node, response))
    }

    /// A node's response to a request of a partner, without our Via.
    pub(crate) fn response_out(
        &self,
        mut response: Message,
        node: &str,
        partner: &Remote<Domain>,
        face: &Face,
    ) -> Rewritten {
        let vias = scrub::take(&mut response.headers, &HeaderName::Via);
        // The partner's own Record-Route is its memory, and the lowest part of the list; what was
        // put on it inside is not for it, and stands behind the token.
        let mut recorded = scrub::take(&mut response.headers, &HeaderName::RecordRoute);
        let theirs = vias.first().map_or(0, |via| recorded_by_partner(via));
        let recorded = recorded.split_off(recorded.len().saturating_sub(theirs));
        self.seal_contacts(&mut response, node, partner, face)?;
        scrub::scrub(&mut response, face)?;
        for route in recorded.into_iter().rev() {
            response.headers.push_first(HeaderName::RecordRoute, route)?;
        }
        if vias.len() < 2 {
            return Err(invalid("Via", "does not say where the response goes"));
        }
        for via in vias.into_iter().skip(1).rev() {
            response.headers.push_first(HeaderName::Via, via)?;
        }
        Ok(response)
    }

    /// A partner's request in a dialog: the node that holds it, and the request as it expects it.
    pub(crate) fn dialog_in(
        &self,
        request: &Message,
        partner: &Remote<Domain>,
    ) -> Result<DialogToken, InvalidToken> {
        let uri = request.uri().ok_or(InvalidToken)?;
        let sealed = uri.user.as_deref().ok_or(InvalidToken)?;
        self.keys.open_dialog(sealed, partner.0.as_str())
    }

    /// The branch of our Via towards a node: the number of the connection that the response takes, and
    /// a keyed hash of the node, the two domains and what tells requests apart. A CANCEL and the ACK
    /// of a refusal get that of their INVITE.
    pub(crate) fn inner_branch(
        &self,
        connection: u64,
        node: &str,
        pair: &Pair,
        request: &Message,
    ) -> String {
        let top = request.top_via().ok().flatten();
        let tag = self.branches.first().map(|key| tag(key, connection, node, pair, request, top));
        let mut branch = format!("{MAGIC_COOKIE}{connection:016x}");
        for byte in tag.as_ref().map(short).unwrap_or_default() {
            branch.push_str(&format!("{byte:02x}"));
        }
        branch
    }

    /// True if this very node was given the request that this response answers, by us or by another
    /// edge: no node answers in the place of another.
    pub(crate) fn may_answer(&self, response: &Message, node: &str, pair: &Pair) -> bool {
        let Ok(vias) = response.vias() else { return false };
        let mut vias = vias.into_iter();
        let Some(own) = vias.next() else { return false };
        let Some((branch, connection)) =
            own.branch().and_then(|branch| Some((branch, connection_of(branch)?)))
        else {
            return false;
        };
        let theirs = vias.next();
        let proof = branch.get(MAGIC_COOKIE.len() + 16..).unwrap_or_default();
        self.branches.iter().any(|key| {
            let tag = tag(key, connection, node, pair, response, theirs.clone());
            let want: String = short(&tag).iter().map(|byte| format!("{byte:02x}")).collect();
            constant_time::verify_slices_are_equal(want.as_bytes(), proof.as_bytes()).is_ok()
        })
    }

    fn seal_contacts(
        &self,
        message: &mut Message,
        node: &str,
        partner: &Remote<Domain>,
        face: &Face,
    ) -> Result<(), InvalidMessage> {
        let contacts = message.contacts()?;
        message.headers.remove(&HeaderName::Contact);
        for contact in contacts {
            let token = DialogToken { node: node.to_owned(), contact: contact.uri.to_string() };
            let text = std::slice::from_ref(&token.contact);
            let nonce = self.nonce(b"dialog", node, text, partner);
            let sealed =
                self.keys.seal_dialog(&token, partner.0.as_str(), nonce).map_err(too_long)?;
            let mut outside = face.contact(&sealed);
            for name in ["expires", "q"] {
                if let Some(value) = contact.params.get(name) {
                    outside.params.set(name, Some(value));
                }
            }
            message.headers.push(HeaderName::Contact, outside.to_string())?;
        }
        Ok(())
    }

    fn nonce(
        &self,
        purpose: &[u8],
        node: &str,
        text: &[String],
        partner: &Remote<Domain>,
    ) -> [u8; 12] {
        let mut context = hmac::Context::with_key(&self.nonces);
        let partner = partner.0.as_str();
        for part in [purpose, node.as_bytes(), partner.as_bytes()] {
            context.update(part);
            context.update(b"\0");
        }
        for line in text {
            context.update(line.as_bytes());
            context.update(b"\0");
        }
        let mut nonce = [0; 12];
        for (to, from) in nonce.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        nonce
    }
}

/// What binds a request, and the response to it, to the node that was given it.
fn tag(
    key: &hmac::Key,
    connection: u64,
    node: &str,
    pair: &Pair,
    message: &Message,
    partners_via: Option<Via>,
) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&connection.to_be_bytes());
    let via = partners_via.map(|via| via.to_string()).unwrap_or_default();
    let call_id = message.call_id().unwrap_or_default();
    let number = message.cseq().map(|cseq| cseq.number).unwrap_or_default().to_string();
    let (local, remote) = (pair.local.0.as_str(), pair.remote.0.as_str());
    for part in [node, local, remote, &via, &call_id, &number] {
        context.update(part.as_bytes());
        context.update(b"\0");
    }
    context.sign()
}

/// Only a node of ours can cause it.
fn too_long(error: TokenTooLong) -> InvalidMessage {
    InvalidMessage { what: "Via or Contact", why: error.to_string(), status: Status::of(513) }
}

/// Half of the tag is enough: each guess is a message on the trunk.
fn short(tag: &hmac::Tag) -> &[u8] {
    tag.as_ref().get(..8).unwrap_or_default()
}

/// The connection that a branch of ours names.
pub(crate) fn connection_of(branch: &str) -> Option<u64> {
    u64::from_str_radix(branch.strip_prefix(MAGIC_COOKIE)?.get(..16)?, 16).ok()
}

/// Our Via towards a node, with the number of routes that the partner recorded.
pub(crate) fn inner_via(branch: &str, recorded: usize) -> Result<Via, InvalidMessage> {
    Via::parse(&format!("SIP/2.0/TLS edge.invalid;branch={branch};{RECORDED}={recorded}"))
}

/// That number, as it came back.
fn recorded_by_partner(via: &str) -> usize {
    let via = Via::parse(via).ok();
    via.and_then(|via| via.params.get(RECORDED)?.parse().ok()).unwrap_or_default()
}

fn invalid(what: &'static str, why: &str) -> InvalidMessage {
    InvalidMessage { what, why: why.to_owned(), status: Status::of(400) }
}

impl std::fmt::Debug for Pat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pat(..)")
    }
}
