//! What is inside a token, as few bytes as it takes: it travels in every message.

use super::{DialogToken, ReturnToken, TokenTooLong};

const NODE_MAX: usize = 64;
const CONTACT_MAX: usize = 512;
const VIAS_MAX: usize = 8;
const VIA_BYTES_MAX: usize = 1024;

/// Length and name of the node, then each Via with two bytes of length.
pub(super) fn write_return(token: &ReturnToken) -> Result<Vec<u8>, TokenTooLong> {
    let mut out = node(&token.node)?;
    let bytes: usize = token.vias.iter().map(String::len).sum();
    if token.vias.len() > VIAS_MAX || bytes > VIA_BYTES_MAX {
        return Err(TokenTooLong { what: "list of Vias" });
    }
    for via in &token.vias {
        let length = u16::try_from(via.len()).map_err(|_| TokenTooLong { what: "list of Vias" })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(via.as_bytes());
    }
    Ok(out)
}

pub(super) fn read_return(payload: &[u8]) -> Option<ReturnToken> {
    let (node, mut rest) = take_node(payload)?;
    let mut vias = Vec::new();
    let mut bytes = 0;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (via, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        bytes += via.len();
        if vias.len() == VIAS_MAX || bytes > VIA_BYTES_MAX {
            return None;
        }
        vias.push(std::str::from_utf8(via).ok()?.to_owned());
        rest = tail;
    }
    Some(ReturnToken { node, vias })
}

/// Length and name of the node, then the Contact.
pub(super) fn write_dialog(token: &DialogToken) -> Result<Vec<u8>, TokenTooLong> {
    let mut out = node(&token.node)?;
    if token.contact.len() > CONTACT_MAX {
        return Err(TokenTooLong { what: "Contact" });
    }
    out.extend_from_slice(token.contact.as_bytes());
    Ok(out)
}

pub(super) fn read_dialog(payload: &[u8]) -> Option<DialogToken> {
    let (node, contact) = take_node(payload)?;
    if contact.len() > CONTACT_MAX {
        return None;
    }
    Some(DialogToken { node, contact: std::str::from_utf8(contact).ok()?.to_owned() })
}

fn node(name: &str) -> Result<Vec<u8>, TokenTooLong> {
    let too_long = TokenTooLong { what: "name of the node" };
    if name.len() > NODE_MAX {
        return Err(too_long);
    }
    let mut out = vec![u8::try_from(name.len()).map_err(|_| too_long)?];
    out.extend_from_slice(name.as_bytes());
    Ok(out)
}

fn take_node(payload: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let length = usize::from(*length);
    if length > NODE_MAX {
        return None;
    }
    let (node, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(node).ok()?.to_owned(), rest))
}
