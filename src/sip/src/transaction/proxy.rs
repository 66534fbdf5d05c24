//! What a stateful proxy does with a message besides transactions: RFC 3261 sections 16.3 to 16.7,
//! RFC 5393.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{HeaderName, InvalidMessage, Message, Status};

/// What Max-Forwards starts with (RFC 3261 section 8.1.1.6).
pub const MAX_FORWARDS: u32 = 70;

/// Counts Max-Forwards down, or writes it where it is missing (section 16.6, step 3).
///
/// # Errors
/// 483 at zero (section 16.3, step 3); 400 where it is no number up to 255.
pub fn count_down(request: &mut Message) -> Result<(), InvalidMessage> {
    let what = "Max-Forwards";
    let left = match request.headers.get(&HeaderName::MaxForwards) {
        None => MAX_FORWARDS + 1,
        Some(text) => match text.trim().parse::<u8>() {
            Ok(0) => {
                let why = "the request went through too many hops".to_owned();
                return Err(InvalidMessage { what, why, status: Status::of(483) });
            }
            Ok(left) => u32::from(left),
            Err(_) => {
                let why = "not a number up to 255".to_owned();
                return Err(InvalidMessage { what, why, status: Status::of(400) });
            }
        },
    };
    request.headers.set(HeaderName::MaxForwards, (left - 1).to_string())
}

/// The second part of a branch of ours (RFC 5393 section 4.2.1): a digest of everything a
/// routing decision depends on. A request that comes back with the same one loops.
pub fn loop_digest(request: &Message) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    if let Some(uri) = request.uri() {
        context.update(uri.to_string().as_bytes());
    }
    for name in [HeaderName::Route, HeaderName::ProxyRequire, HeaderName::CallId] {
        for value in request.headers.get_all(&name) {
            context.update(b"\n");
            context.update(value.as_bytes());
        }
        context.update(b"\n\n");
    }
    for tag in [request.from(), request.to()] {
        if let Ok(address) = tag {
            context.update(address.tag().unwrap_or_default().as_bytes());
        }
        context.update(b"\n");
    }
    if let Ok(cseq) = request.cseq() {
        context.update(cseq.number.to_string().as_bytes());
    }
    let digest = context.finish();
    URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default())
}

/// True if a Via of ours (by `is_ours`) carries this digest at the end of its branch: answer 482.
pub fn loops(request: &Message, digest: &str, is_ours: impl Fn(&crate::Via) -> bool) -> bool {
    request.vias().is_ok_and(|vias| {
        vias.iter()
            .any(|via| is_ours(via) && via.branch().is_some_and(|branch| branch.ends_with(digest)))
    })
}

/// Takes our Via off an answer (section 16.7, step 3). `false`: it was the last one, so the answer
/// is for us and goes nowhere.
pub fn pop_via(response: &mut Message) -> bool {
    let mut vias = response.headers.list(&HeaderName::Via);
    if vias.len() < 2 {
        return false;
    }
    vias.remove(0);
    // What was read as a header holds no line break.
    response.headers.set(HeaderName::Via, vias.join(", ")).is_ok()
}

/// True for what a proxy forwards on: everything but 100, which is for one hop (section 16.7,
/// step 5).
pub fn is_forwarded(status: Status) -> bool {
    status.code() > 100
}
