use std::net::SocketAddr;

/// Where servers of the inside reach us, told over a connection that we opened and whose end here is
/// `local`: that address, at the port that we listen on there. Where we listen on other addresses only,
/// the one of those that is of the same kind; where we do not listen, the connection's end.
pub(super) fn reached_at(listening: &[SocketAddr], local: SocketAddr) -> SocketAddr {
    let own = local.ip().to_canonical();
    let serves = |one: &&SocketAddr| one.ip().to_canonical() == own;
    let everywhere = |one: &&SocketAddr| one.ip().is_unspecified();
    let same_kind = |one: &&SocketAddr| one.ip().to_canonical().is_ipv4() == own.is_ipv4();
    if let Some(here) = listening.iter().find(serves).or_else(|| listening.iter().find(everywhere))
    {
        return SocketAddr::new(own, here.port());
    }
    let other = listening.iter().find(same_kind).or_else(|| listening.first());
    other.map_or_else(
        || SocketAddr::new(own, local.port()),
        |other| SocketAddr::new(other.ip().to_canonical(), other.port()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(listening: &[&str], local: &str) -> String {
        let listening: Vec<_> = listening.iter().map(|one| one.parse().unwrap()).collect();
        reached_at(&listening, local.parse().unwrap()).to_string()
    }

    #[test]
    fn a_peer_is_told_an_address_at_which_we_listen() {
        for (listening, local, told) in [
            (&["[::]:5071"][..], "10.0.0.3:40000", "10.0.0.3:5071"),
            (&["0.0.0.0:5071"], "[::ffff:10.0.0.3]:40000", "10.0.0.3:5071"),
            // A connection may leave by another address than the one that we listen on.
            (&["10.0.0.3:5071"], "192.168.7.7:40000", "10.0.0.3:5071"),
            (&["10.0.0.3:5071", "10.0.0.4:5072"], "10.0.0.4:40000", "10.0.0.4:5072"),
            (&["[2001:db8::3]:5073", "10.0.0.3:5071"], "10.9.9.9:40000", "10.0.0.3:5071"),
            (&["[2001:db8::3]:5073"], "10.9.9.9:40000", "[2001:db8::3]:5073"),
            (&[], "10.0.0.3:40000", "10.0.0.3:40000"),
        ] {
            assert_eq!(at(listening, local), told, "{listening:?} {local}");
        }
    }
}
