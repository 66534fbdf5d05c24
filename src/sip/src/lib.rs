//! SIP without sockets: framing and limits, byte-preserving messages, typed headers, transactions
//! (RFC 3261 with RFC 6026), dialogs, SDP for `m=message`, PIDF,
//! typing notices, and the sealed tokens of port address translation (PAT).
//!
//! Owns: everything that is bytes, states and events. Does not own: sockets, clocks, DNS, who may
//! talk to whom, what a message means to an XMPP user. Time and randomness are passed in.
//!
//! `rsip` is a second opinion in the tests of this crate, and nowhere else: docs/decisions/0007.

mod body;
mod dialog;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grammar;
mod headers;
mod message;
mod method;
mod name_addr;
mod params;
mod pat;

mod status;
mod stream;
mod transaction;
mod uri;

pub use self::body::{composing, pidf, sdp};
pub use self::dialog::{Dialog, DialogError, DialogId, InvalidStored};
pub use self::framing::{Framer, FramingError, Limits, Received};
pub use self::headers::{
    CSeq, ContentType, Event, Header, HeaderName, Headers, SubscriptionState, Via, Warning,
};
pub use self::message::{InvalidMessage, Message, Start};
pub use self::method::Method;
pub use self::name_addr::NameAddr;
pub use self::params::Params;
#[cfg(any(test, feature = "fuzzing"))]
pub use self::pat::check_token;
pub use self::pat::{
    DialogToken, InvalidSecrets, InvalidToken, KEYS_MAX, ReturnToken, SECRET_MIN, TokenKey,
    TokenKeys, TokenTooLong,
};
pub use self::status::Status;
pub use self::stream::{SipStream, StreamConfig, StreamEnd, StreamEvent};
pub use self::transaction::{
    ClientKey, Flow, Role, ServerKey, TransactionEvent, TransactionLimits, Transactions, UsedUp,
    proxy,
};
pub use self::uri::{Host, InvalidUri, Scheme, Uri};
pub use gatehouse_types::Seed;
