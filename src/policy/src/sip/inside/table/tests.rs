use super::*;
use crate::sip::inside::{HopProtocol, InsideSip, RouteBy, TrustedPeer};

/// `pattern priority weight hop flags`; a pattern with `@` in front is for domains, one with `@` inside
/// for users of domains; flags: `b` blocks, `o` is out of service, `s` allows nothing less specific.
fn route(line: &str) -> StaticRoute {
    let words: Vec<&str> = line.split(' ').collect();
    let (by, pattern, within) = match words[0].split_once('@') {
        Some(("", domain)) => (RouteBy::Domain, domain, None),
        Some((user, domain)) => (RouteBy::User, user, Some(domain)),
        None => (RouteBy::User, words[0], None),
    };
    let flags = words.get(4).copied().unwrap_or_default();
    StaticRoute {
        pattern: RoutePattern::parse(by, pattern).unwrap(),
        within: within.map(|domain| RoutePattern::parse(RouteBy::Domain, domain).unwrap()),
        hop: Hop::new(&format!("{}.example", words[3]), None, HopProtocol::Tcp).unwrap(),
        kind: None,
        priority: words[1].parse().unwrap(),
        weight: words[2].parse().unwrap(),
        less_specific: !flags.contains('s'),
        in_service: !flags.contains('o'),
        block: flags.contains('b'),
    }
}

fn table(lines: &[&str]) -> RouteTable {
    RouteTable::new(lines.iter().map(|line| route(line)).collect(), &[]).unwrap()
}

/// The hosts in order; `-` for elsewhere, `!` for blocked, `0` for nobody.
fn selected(table: &RouteTable, address: &str, drawn: u32) -> String {
    let (user, domain) = address.split_once('@').unwrap();
    match table.select(Some(user), domain, true, &mut |_| drawn) {
        Selection::Elsewhere => "-".to_owned(),
        Selection::Blocked(_) => "!".to_owned(),
        Selection::Via(routes) if routes.is_empty() => "0".to_owned(),
        Selection::Via(routes) => {
            let name = |route: &&StaticRoute| {
                route.hop.to_string().split('.').next().unwrap_or_default().to_owned()
            };
            routes.iter().map(name).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn which_route_is_taken() {
    for (routes, address, wanted) in [
        (&["1001 1 1 a"][..], "1001@x", "a"),
        (&["1001 1 1 a"], "1002@x", "-"),
        // The most specific pattern first, then the others.
        (&["1* 1 1 a", "1001 9 1 b", "10.. 1 1 c"], "1001@x", "b c a"),
        (&["1* 1 1 a", "10.. 1 1 c"], "1101@x", "a"),
        // A user's route before a domain's.
        (&["@phones.example 1 1 a", "* 1 1 b"], "1001@phones.example", "b a"),
        (&["@*.example 1 1 a", "@phones.example 1 1 b"], "x@phones.example", "b a"),
        // Lower priority first, and the rest after it.
        (&["1 2 50 c", "1 1 20 a", "1 1 10 b"], "1@x", "a b c"),
        // Nothing less specific.
        (&["1* 1 1 a", "1001 1 1 b s"], "1001@x", "b"),
        // Blocked: no way around it.
        (&["1* 1 1 a", "1001 1 1 b b"], "1001@x", "!"),
        (&["1* 1 1 a", "1001 1 1 b b"], "1002@x", "a"),
        (&["1001 1 1 a", "1001 2 1 b b"], "1001@x", "!"),
        (&["1* 1 1 a b", "1001 1 1 b"], "1001@x", "b"),
        (&["* 1 1 a", "1* 1 1 b b", "1001 1 1 c"], "1001@x", "c"),
        // Out of service: as if it were not there, except that it keeps its own.
        (&["1* 1 1 a", "1001 1 1 b o"], "1001@x", "a"),
        (&["1001 1 1 b o"], "1001@x", "-"),
        (&["1001 1 1 b ob"], "1001@x", "-"),
        (&["1* 1 1 a", "1001 1 1 b os"], "1001@x", "0"),
        (&["1001 1 1 a o", "1001 2 1 b"], "1001@x", "b"),
    ] {
        assert_eq!(selected(&table(routes), address, 0), wanted, "{routes:?} {address}");
    }
}

#[test]
fn a_pattern_for_users_alone_means_nobody_outside() {
    let trusted = TrustedPeer {
        name: "pbx".to_owned(),
        subjects: Vec::new(),
        addresses: Vec::new(),
        domains: vec!["phones.example".parse().unwrap()],
        kind: None,
    };
    let routes = ["10.. 1 1 a", "20..@desks.example 1 1 b", "20.. 1 1 c", "@halls.example 1 1 d"];
    let inside = InsideSip { trusted: vec![trusted], routes: table(&routes) };
    for (address, wanted) in [
        // A trusted peer speaks for the domain, or a route names it.
        ("1001@phones.example", "a"),
        ("2001@phones.example", "c"),
        ("1001@halls.example", "a d"),
        // The row names the domain.
        ("2001@desks.example", "b"),
        // Partners call their users what they like.
        ("1001@partner.example", ""),
        ("2001@partner.example", ""),
        ("1001@desks.example", ""),
        ("1001@sub.phones.example", ""),
    ] {
        let (user, domain) = address.split_once('@').unwrap();
        let domain = domain.parse().unwrap();
        let hosts = match inside.select(Some(user), &domain, &mut |_| 0) {
            Selection::Via(routes) => routes
                .iter()
                .map(|route| route.hop.to_string().split_once('.').unwrap().0.to_owned())
                .collect::<Vec<_>>()
                .join(" "),
            Selection::Elsewhere => String::new(),
            Selection::Blocked(_) => panic!("{address}"),
        };
        assert_eq!(hosts, wanted, "{address}");
        let is_taken = inside.takes(Some(user), &domain);
        assert_eq!(is_taken, !wanted.is_empty(), "{address}");
    }
    // The narrower row first, and each has routes of its own.
    let both = table(&["20.. 1 1 c", "20..@desks.example 1 1 b", "20..@*.example 1 1 e"]);
    assert_eq!(selected(&both, "2001@desks.example", 0), "b e c");
}

#[test]
fn weights_share_the_load() {
    let table = table(&["1 1 20 a", "1 1 10 b"]);
    let mut first = [0, 0];
    for drawn in 0..30 {
        let order = selected(&table, "1@x", drawn);
        first[usize::from(order.starts_with('b'))] += 1;
        assert!(order == "a b" || order == "b a", "both are tried: {order}");
    }
    assert_eq!(first, [20, 10]);
    assert_eq!(selected(&table, "1@x", u32::MAX), "b a", "a bad draw harms nobody");
}

#[test]
fn the_limits_say_what_to_do() {
    let same = |count| vec![route("1001 1 1 a"); count];
    assert!(RouteTable::new(same(100), &[]).is_ok());
    let fault = RouteTable::new(same(101), &[]).unwrap_err();
    assert_eq!(
        fault.0,
        [RouteFault::SamePattern { at: 100, pattern: "1001".to_owned() }],
        "{fault:?}"
    );
    let fault = RouteTable::new(same(1001), &[]).unwrap_err();
    assert_eq!(fault.0, [RouteFault::Routes(1001)]);
    let template: EmbedTemplate = "1.2xx".parse().unwrap();
    let six = vec![template.clone(); 6];
    assert_eq!(RouteTable::new(vec![], &six).unwrap_err().0, [RouteFault::Templates(6)]);
    assert!(RouteTable::new(vec![], &six[..5]).is_ok());
    let inside = || vec![route("1.234 1 1 a")];
    assert!(RouteTable::new(inside(), &[template]).is_ok());
    let fault = RouteTable::new(inside(), &[]).unwrap_err();
    assert_eq!(fault.0, [RouteFault::NoTemplate { at: 0, pattern: "1.234".to_owned() }]);
    assert!(fault.0[0].to_string().contains("add a template"));
}
