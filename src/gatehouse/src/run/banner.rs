use std::fmt::Write as _;
use std::net::SocketAddr;

use gatehouse_config::Settings;

use crate::certificates;
use crate::commands::Failure;
use crate::display::say;
use crate::setup::Setup;

/// Tells a newcomer where clients connect, what to publish, what the certificates hold, and what to
/// do next.
pub(super) fn show(setup: &Setup) -> Result<(), Failure> {
    let settings = &setup.settings;
    let mut text =
        format!("\nGatehouse {} is running ({}).\n", env!("CARGO_PKG_VERSION"), setup.origin());
    if settings.roles.has_core() {
        let _ = writeln!(
            text,
            "\nClients connect to  {} (STARTTLS)  {} (direct TLS)",
            addresses(&settings.listen.c2s),
            addresses(&settings.listen.c2s_direct_tls)
        );
    }
    if settings.roles.has_edge() {
        let _ = writeln!(
            text,
            "Servers connect to  {} (STARTTLS)  {} (direct TLS)",
            addresses(&settings.listen.s2s),
            addresses(&settings.listen.s2s_direct_tls)
        );
        if !settings.listen.sip.is_empty() {
            let _ = writeln!(text, "SIP partners on     {} (TLS)", addresses(&settings.listen.sip));
        }
    }
    text.push_str(&dns(settings));
    text.push_str(&certificates::overview(setup)?);
    text.push_str(&next(setup));
    say(text);
    Ok(())
}

fn addresses(list: &[SocketAddr]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn dns(settings: &Settings) -> String {
    let host = &settings.edge_host;
    let port = |list: &[SocketAddr], default: u16| list.first().map_or(default, SocketAddr::port);
    let listen = &settings.listen;
    let mut text = format!("\nDNS records to publish ({host} needs an A or AAAA record):\n");
    for domain in &settings.domains {
        let mut rows = vec![
            ("_xmpps-server._tcp", 5, port(&listen.s2s_direct_tls, 5270)),
            ("_xmpp-server._tcp", 10, port(&listen.s2s, 5269)),
        ];
        if settings.roles.has_core() {
            rows.push(("_xmpps-client._tcp", 5, port(&listen.c2s_direct_tls, 5223)));
            rows.push(("_xmpp-client._tcp", 10, port(&listen.c2s, 5222)));
        }
        for (service, priority, port) in rows {
            let _ = writeln!(text, "  {service}.{domain}. 3600 IN SRV {priority} 0 {port} {host}.");
        }
        if let (false, Some(host)) = (listen.sip.is_empty(), settings.sip.host(domain)) {
            let port = settings.sip.public_port;
            let _ = writeln!(
                text,
                "  _sipfederationtls._tcp.{domain}. 3600 IN SRV 0 0 {port} {host}.  (and an A or AAAA record for {host})"
            );
        }
    }
    text
}

fn next(setup: &Setup) -> String {
    let settings = &setup.settings;
    let domain = setup.first_domain();
    let data = settings.data.display();
    let mut text = String::from("\nWhat to do next:\n");
    if settings.roles.has_core() {
        let _ =
            writeln!(text, "  create a user      gatehouse user add alice@{domain} --data {data}");
        let _ = writeln!(
            text,
            "  connect a client   as alice@{domain}; it must trust {data}/certs/local-ca.crt"
        );
    }
    if settings.roles.has_edge() {
        let _ = writeln!(
            text,
            "  federate           publish the records above; the partner must trust your certificate:"
        );
        let _ = writeln!(
            text,
            "                     `gatehouse cert csr {domain}` for a public one, or hand over local-ca.crt"
        );
    }
    let _ = writeln!(
        text,
        "  look               gatehouse status --watch    http://{}/metrics",
        settings.listen.admin
    );
    text
}
