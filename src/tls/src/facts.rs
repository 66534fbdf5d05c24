use std::io;

use gatehouse_identity::{TlsFacts, TlsVersion};
use rustls::{CommonState, ProtocolVersion};
use rustls_pki_types::UnixTime;

use crate::exporter::Exporter;
use crate::judgement::judge;
use crate::roots::Trust;

/// What the handshake that has just ended tells; `exporter` has listened to it.
pub(crate) fn facts(
    state: &CommonState,
    exporter: &Exporter,
    trust: &Trust,
) -> io::Result<TlsFacts> {
    let version = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
        other => {
            let text = format!("the handshake ended with version {other:?}, which we do not speak");
            return Err(io::Error::other(text));
        }
    };
    let shown = state.peer_certificates().unwrap_or_default();
    Ok(TlsFacts {
        presented: judge(shown, trust, UnixTime::now()),
        exporter: exporter.take(state),
        version,
    })
}
