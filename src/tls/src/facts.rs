use std::io;

use gatehouse_identity::{TlsFacts, TlsVersion};
use rustls::{CommonState, ConnectionCommon, ProtocolVersion};
use rustls_pki_types::UnixTime;

use crate::judgement::judge;
use crate::roots::Trust;

/// Label of the `tls-exporter` channel binding (RFC 9266, section 2).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What the handshake that has just ended on `connection` tells.
pub(crate) fn facts<Side>(
    connection: &ConnectionCommon<Side>,
    trust: &Trust,
) -> io::Result<TlsFacts> {
    let state: &CommonState = connection;
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
        exporter: match version {
            TlsVersion::Tls13 => exporter(connection),
            // Before 1.3 the exporter binds to one connection only with the extended master
            // secret (RFC 9266, section 2), and rustls does not tell whether that was agreed.
            TlsVersion::Tls12 => None,
        },
        version,
    })
}

fn exporter<Side>(connection: &ConnectionCommon<Side>) -> Option<[u8; 32]> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[])).ok()
}
