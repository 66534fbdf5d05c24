use std::net::IpAddr;

use gatehouse_types::Domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::order::Service;
use crate::tlsa::record;
use crate::{Tlsa, Transport};

/// What DNS says about one SRV name.
#[derive(Debug)]
pub(crate) enum SrvAnswer {
    /// No such records.
    Absent,
    /// One record with target `.`: decidedly not available at this domain (RFC 2782).
    Refused,
    /// Records; those whose target is not a host name are left out.
    Found(Vec<Service>),
    /// No answer that says anything.
    Failed(String),
}

/// What DNS says about the addresses of a host.
#[derive(Debug)]
pub(crate) enum HostAnswer {
    Absent,
    Found(Vec<IpAddr>),
    Failed(String),
}

/// More records of one name than anybody needs; the rest is not looked at.
const RECORDS_MAX: usize = 64;

pub(crate) async fn services(
    resolver: &TokioResolver,
    transport: Transport,
    domain: &Domain,
    deadline: Instant,
) -> SrvAnswer {
    let service = match transport {
        Transport::DirectTls => "_xmpps-server",
        Transport::StartTls => "_xmpp-server",
    };
    services_of(resolver, service, transport, domain, deadline).await
}

/// The SRV records of any service over TCP; `transport` is what their endpoints shall say.
pub(crate) async fn services_of(
    resolver: &TokioResolver,
    service: &str,
    transport: Transport,
    domain: &Domain,
    deadline: Instant,
) -> SrvAnswer {
    // The last dot keeps the search list of resolv.conf out.
    let name = format!("{service}._tcp.{domain}.");
    let answer = timeout_at(deadline, resolver.lookup(name.as_str(), RecordType::SRV)).await;
    let lookup = match answer.map_err(|_| NetError::Timeout) {
        Ok(Ok(lookup)) => lookup,
        Ok(Err(error)) | Err(error) if error.is_no_records_found() => {
            debug!(name, %error, "no SRV records");
            return SrvAnswer::Absent;
        }
        Ok(Err(error)) | Err(error) => return SrvAnswer::Failed(format!("{name}: {error}")),
    };
    let mut refused = false;
    let mut services = Vec::new();
    let records = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    });
    for srv in records.take(RECORDS_MAX) {
        if srv.target.is_root() {
            refused = true;
            continue;
        }
        match srv.target.to_ascii().parse::<Domain>() {
            Ok(host) if srv.port != 0 => services.push(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host,
                transport,
            }),
            Ok(_) | Err(_) => debug!(name, target = %srv.target, "SRV target cannot be dialled"),
        }
    }
    match (services.is_empty(), refused) {
        (false, _) => SrvAnswer::Found(services),
        (true, true) => SrvAnswer::Refused,
        (true, false) => SrvAnswer::Absent,
    }
}

pub(crate) async fn addresses(
    resolver: &TokioResolver,
    host: &Domain,
    deadline: Instant,
) -> HostAnswer {
    let name = format!("{host}.");
    match timeout_at(deadline, resolver.lookup_ip(name.as_str())).await {
        Ok(Ok(lookup)) => {
            let addresses: Vec<IpAddr> = lookup.iter().take(RECORDS_MAX).collect();
            if addresses.is_empty() { HostAnswer::Absent } else { HostAnswer::Found(addresses) }
        }
        Ok(Err(error)) if error.is_no_records_found() => HostAnswer::Absent,
        Ok(Err(error)) => HostAnswer::Failed(format!("{name}: {error}")),
        Err(_) => HostAnswer::Failed(format!("{name}: {}", NetError::Timeout)),
    }
}

/// The TLSA records of a port, of which nothing is proved; none if nobody says anything.
pub(crate) async fn tlsa_records(
    resolver: &TokioResolver,
    host: &Domain,
    port: u16,
    deadline: Instant,
) -> Vec<Tlsa> {
    let name = format!("_{port}._tcp.{host}.");
    match timeout_at(deadline, resolver.lookup(name.as_str(), RecordType::TLSA)).await {
        Ok(Ok(lookup)) => {
            let data = lookup.answers().iter().map(|answer| answer.data.clone());
            data.filter_map(record).take(RECORDS_MAX).collect()
        }
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
