//! What many subscriptions take.

use super::*;

const WATCHERS: usize = 20_000;
/// Subscriptions and all that hangs on them, in one core: 200 MB, which is less than 200 MiB.
const KIB_MAX: u64 = 195_312;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Run by hand, alone: `cargo test --release -p gatehouse-bridge memory -- --ignored --nocapture`.
#[test]
#[ignore = "takes the memory of the whole process, so nothing may run beside it"]
fn twenty_thousand_active_subscriptions_take_less_than_200_megabytes() {
    let mut world = World::with(|config| {
        let names = (0..4).map(|number| format!("partner{number}.example").parse().unwrap());
        config.named = names.collect();
    });
    let before = resident_kib();
    for number in 0..WATCHERS {
        let (user, domain) = (number % 40, number % 4);
        let watcher = format!("w{number}@partner{domain}.example");
        let mut request = fresh("SUBSCRIBE", &format!("watch-{number}"));
        let uri = gatehouse_sip::Uri::parse(&format!("sip:u{user}@ours.example")).unwrap();
        request.start = gatehouse_sip::Start::Request { method: Method::Subscribe, uri };
        for (name, value) in [
            (
                HeaderName::From,
                format!("\"w{number}\" <sip:{watcher}>;tag=9d5c{number};epid=b84a59c035"),
            ),
            (HeaderName::To, format!("<sip:u{user}@ours.example>")),
            (HeaderName::Contact, format!("<sip:{watcher};opaque=user:epid:hYns-x{number};gruu>")),
            (HeaderName::Event, "presence".to_owned()),
            (HeaderName::Expires, "7200".to_owned()),
            (HeaderName::Accept, "application/pidf+xml".to_owned()),
        ] {
            request.headers.set(name, value).unwrap();
        }
        world.request(request);
        answer_all(&mut world);
        let from = format!("u{user}@ours.example");
        world.stanza(&format!("<presence from='{from}' to='{watcher}' type='subscribed'/>"), 1);
        answer_all(&mut world);
        let here =
            format!("<presence from='{from}/desk' to='{watcher}'><show>dnd</show></presence>");
        world.stanza(&here, 2);
        answer_all(&mut world);
    }
    world.pass(Duration::from_secs(2));
    let notified = world.effects.iter().filter(|effect| line(effect) == "> NOTIFY").count();
    answer_all(&mut world);
    world.effects = Vec::new();
    let grown = resident_kib() - before;
    assert_eq!((world.gateway.status().watched, notified), (WATCHERS, WATCHERS));
    println!(
        "{WATCHERS} active subscriptions: {} MiB, {} bytes each",
        grown / 1024,
        grown * 1024 / WATCHERS as u64
    );
    assert!(grown < KIB_MAX, "{grown} KiB");
}

/// The partners take all that they are told.
fn answer_all(world: &mut World) {
    for effect in std::mem::take(&mut world.effects) {
        if let Effect::Request { id, request } = effect {
            world.gateway.handle_response(id, reply(&request, 200), world.now);
        }
    }
    world.did();
}
