//! What DNS says, for a person who wants to see it rather than dial it.

use std::net::IpAddr;

use gatehouse_types::Domain;
use tokio::time::Instant;

use crate::lookup::{HostAnswer, SrvAnswer, addresses, services_of};
use crate::resolver::{ENDPOINTS_MAX, TOTAL_TIMEOUT};
use crate::{Resolver, Transport};

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

impl Resolver {
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
