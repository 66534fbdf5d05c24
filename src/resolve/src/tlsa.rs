use std::net::SocketAddr;

use gatehouse_types::Domain;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::Instant;

use crate::query::{Answer, ask};
use crate::resolver::TOTAL_TIMEOUT;
use crate::{Resolver, Transport};

/// One TLSA record, as it stands in DNS (RFC 6698, section 2.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// Selector.
    pub selector: u8,
    /// Matching type.
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// What DNS proves about the certificates of one target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsaAnswer {
    /// DNSSEC proves these records, and the way to them; never empty, at most 64.
    Secure(Vec<Tlsa>),
    /// DNS proves nothing, so certificates are judged as without DANE.
    Insecure,
    /// What should be signed cannot be validated, or nobody answered. The target must not be used
    /// (RFC 7673, section 3). The reason, for the log.
    Failed(String),
}

impl Resolver {
    /// The same, with the AD bit of `servers` taken as proof (RFC 6840, section 5.8). They must
    /// validate, and only we may speak on the way to them: they are on this machine.
    #[must_use]
    pub fn trusting_ad(self, servers: &[SocketAddr]) -> Self {
        Self { validating: servers.into(), ..self }
    }

    /// True if some name server's AD bit counts.
    pub fn trusts_ad(&self) -> bool {
        !self.validating.is_empty()
    }

    /// What DNS proves about the certificate at `host`:`port`, which it gave for `domain` and
    /// `transport` (RFC 7673, section 3): the TLSA records, if the SRV answer, the addresses and
    /// the records themselves are all secure. Takes at most five seconds. Nothing is asked unless
    /// [`trusting_ad`](Self::trusting_ad) was.
    ///
    /// `pick(max)` draws from `0..=max`; pass randomness.
    pub async fn tlsa(
        &self,
        domain: &Domain,
        host: &Domain,
        port: u16,
        transport: Transport,
        pick: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> TlsaAnswer {
        if !self.trusts_ad() {
            return TlsaAnswer::Insecure;
        }
        let service = match transport {
            Transport::DirectTls => "_xmpps-server",
            Transport::StartTls => "_xmpp-server",
        };
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let mut query = |name: String, kind| {
            let id = u16::try_from(pick(u32::from(u16::MAX))).unwrap_or_default();
            async move { ask(&self.validating, &name, kind, id, deadline).await }
        };
        let (srv, six, four) = tokio::join!(
            query(format!("{service}._tcp.{domain}."), RecordType::SRV),
            query(format!("{host}."), RecordType::AAAA),
            query(format!("{host}."), RecordType::A),
        );
        let way = way(srv, domain, host, port).and_then(|secure| Ok(secure && place(six, four)?));
        match way {
            Ok(true) => {}
            Ok(false) => return TlsaAnswer::Insecure,
            Err(reason) => return TlsaAnswer::Failed(reason),
        }
        match query(format!("_{port}._tcp.{host}."), RecordType::TLSA).await {
            Ok(Answer { secure: true, data }) if !data.is_empty() => {
                TlsaAnswer::Secure(data.into_iter().filter_map(record).collect())
            }
            Ok(_) => TlsaAnswer::Insecure,
            Err(reason) => TlsaAnswer::Failed(reason),
        }
    }
}

/// Whether the step from the domain to the host is proved. Where there are no SRV records the host
/// is the domain itself and there is no step.
fn way(
    answer: Result<Answer, String>,
    domain: &Domain,
    host: &Domain,
    port: u16,
) -> Result<bool, String> {
    let Answer { secure, data } = answer?;
    if !secure {
        return Ok(false);
    }
    let named = data.iter().any(|data| match data {
        RData::SRV(srv) => {
            srv.port == port && srv.target.to_ascii().parse::<Domain>().is_ok_and(|at| at == *host)
        }
        _ => false,
    });
    if named || (data.is_empty() && domain == host) {
        return Ok(true);
    }
    Err(format!("the signed SRV records of {domain} do not name {host} with port {port}"))
}

/// Whether an address of the host is proved. What is not signed has no TLSA records, and name
/// servers that do not know that type make trouble when asked (RFC 7673, section 3.2).
fn place(six: Result<Answer, String>, four: Result<Answer, String>) -> Result<bool, String> {
    match (six, four) {
        (Err(reason), Err(_)) => Err(reason),
        (Ok(one), Ok(other)) => Ok(one.secure || other.secure),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one.secure),
    }
}

pub(crate) fn record(data: RData) -> Option<Tlsa> {
    match data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data,
        }),
        _ => None,
    }
}
