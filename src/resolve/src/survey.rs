//! What DNS says, for a person who wants to see it rather than dial it.

use std::net::IpAddr;

use gatehouse_types::Domain;
use tokio::time::Instant;

use crate::lookup::{HostAnswer, SrvAnswer, addresses, services_of, tlsa_records};
use crate::resolver::{ENDPOINTS_MAX, TOTAL_TIMEOUT};
use crate::{Resolver, Tlsa, TlsaAnswer, Transport};

/// What DNS says about the SRV records of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SrvSurvey {
    /// There are none that could be dialled.
    Absent,
    /// One record with target `.`: the domain says that it has no such service (RFC 2782).
    Refused,
    /// These, at most 16, in the order of their priorities, heavier ones first.
    Found(Vec<SrvRecord>),
    /// No answer that says anything, and why.
    Failed(String),
}

/// One SRV record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SrvRecord {
    /// Lower goes first.
    pub priority: u16,
    /// The share within one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub host: Domain,
}

/// What DNS says about the addresses of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostSurvey {
    /// It has none.
    Absent,
    /// These.
    Found(Vec<IpAddr>),
    /// No answer that says anything, and why.
    Failed(String),
}

/// What DNS says about the certificates of one port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsaSurvey {
    /// There is no record.
    Absent,
    /// These, and DNSSEC proves them and the way to them: they decide. At most 64.
    Secure(Vec<Tlsa>),
    /// These, at most 64, and nothing proves them: they mean nothing.
    Insecure(Vec<Tlsa>),
    /// What should be signed cannot be validated, and why: the port must not be used (RFC 7673,
    /// section 3).
    Bogus(String),
}

impl Resolver {
    /// The TLSA records of `host`:`port`, to which DNS led for `domain` and `transport`, whether or
    /// not they count. Takes at most ten seconds. `pick(max)` draws from `0..=max`; pass randomness.
    pub async fn tlsa_survey(
        &self,
        domain: &Domain,
        host: &Domain,
        port: u16,
        transport: Transport,
        pick: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> TlsaSurvey {
        match self.tlsa(domain, host, port, transport, pick).await {
            TlsaAnswer::Secure(records) => TlsaSurvey::Secure(records),
            TlsaAnswer::Failed(reason) => TlsaSurvey::Bogus(reason),
            TlsaAnswer::Insecure => {
                let deadline = Instant::now() + TOTAL_TIMEOUT;
                match tlsa_records(&self.inner, host, port, deadline).await {
                    // Who does not answer about what would not count does no harm.
                    records if records.is_empty() => TlsaSurvey::Absent,
                    records => TlsaSurvey::Insecure(records),
                }
            }
        }
    }

    /// The SRV records of `service` (such as `_sips`) over TCP at `domain`. Takes at most five
    /// seconds.
    pub async fn srv(&self, service: &str, domain: &Domain) -> SrvSurvey {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        // Only `Service` wants to know it.
        let transport = Transport::DirectTls;
        match services_of(&self.inner, service, transport, domain, deadline).await {
            SrvAnswer::Absent => SrvSurvey::Absent,
            SrvAnswer::Refused => SrvSurvey::Refused,
            SrvAnswer::Failed(reason) => SrvSurvey::Failed(reason),
            SrvAnswer::Found(found) => {
                let mut records: Vec<SrvRecord> = found
                    .into_iter()
                    .map(|one| SrvRecord {
                        priority: one.priority,
                        weight: one.weight,
                        port: one.port,
                        host: one.host,
                    })
                    .collect();
                records.sort_by_key(|one| (one.priority, u16::MAX - one.weight));
                records.truncate(ENDPOINTS_MAX);
                SrvSurvey::Found(records)
            }
        }
    }

    /// The addresses of `host`. Takes at most five seconds.
    pub async fn host(&self, host: &Domain) -> HostSurvey {
        match addresses(&self.inner, host, Instant::now() + TOTAL_TIMEOUT).await {
            HostAnswer::Absent => HostSurvey::Absent,
            HostAnswer::Found(addresses) => HostSurvey::Found(addresses),
            HostAnswer::Failed(reason) => HostSurvey::Failed(reason),
        }
    }
}
