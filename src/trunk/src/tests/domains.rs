use std::time::Duration;

use gatehouse_testkit::TestCa;
use gatehouse_types::Domain;
use tokio::sync::watch;

use super::world::{Proxy, core_for, domain, edge, id, message, numbers, soon, tuning};
use crate::{Node, Tuning};

fn announcing(names: &[&str]) -> watch::Sender<Vec<Domain>> {
    watch::Sender::new(names.iter().map(|name| domain(name)).collect())
}

fn hasty() -> Tuning {
    Tuning {
        failover_after: Duration::from_millis(100),
        patience: Duration::from_millis(700),
        ..tuning()
    }
}

fn to(place: &str, id: usize) -> gatehouse_xmpp::Stanza {
    message("them.example", place, id)
}

const CORES: &[&str] = &["c1.example", "c2.example"];

#[tokio::test]
async fn each_core_gets_what_is_for_its_domains() {
    let ca = TestCa::new();
    let edge = edge(&ca, "edge.example", CORES, hasty()).await;
    let (one, two) = (announcing(&["ours.example"]), announcing(&["b.example", "no.example"]));
    let edges = [("edge.example", edge.address)];
    let proxy = Proxy::to(edge.address).await;
    let mut first =
        core_for(&ca, "c1.example", one.subscribe(), &[("edge.example", proxy.address)], hasty());
    let mut second = core_for(&ca, "c2.example", two.subscribe(), &edges, hasty());
    edge.diary.wait("c2.example serves b.example", 1).await;
    edge.diary.wait("up c1.example", 1).await;
    for id in 0..4 {
        let place = if id % 2 == 0 { "ours.example" } else { "b.example" };
        edge.trunk.sender.send(to(place, id)).await.unwrap();
    }
    for (core, want) in [(&mut first, [0, 2]), (&mut second, [1, 3])] {
        for number in want {
            assert_eq!(id(&soon(core.trunk.incoming.recv()).await.unwrap()), number);
        }
        assert!(core.trunk.incoming.try_recv().is_err());
    }
    assert_eq!(
        edge.trunk.sender.nodes()[1],
        Node { name: domain("c2.example"), domains: [domain("b.example")].into() }
    );

    // Nobody serves this one: it may not be announced.
    let error = soon(edge.trunk.sender.send(to("no.example", 4))).await.unwrap_err();
    assert_eq!((error.role, error.stanza.id()), ("core", Some("4")));

    // One is lost: what is for it goes back, the other's go on at once.
    proxy.turn(None);
    edge.diary.wait("down c1.example", 1).await;
    soon(edge.trunk.sender.send(to("ours.example", 5))).await.unwrap();
    edge.trunk.sender.send(to("b.example", 6)).await.unwrap();
    assert_eq!(id(&soon(second.trunk.incoming.recv()).await.unwrap()), 6);
    let mut edge = edge;
    let mut back = Vec::new();
    while back.last() != Some(&5) {
        let bounce = soon(edge.trunk.incoming.recv()).await.unwrap();
        let error = bounce.stanza.element().children().next().unwrap();
        assert_eq!(error.children().next().unwrap().name(), "recipient-unavailable");
        assert!(!error.text().contains("core"), "nothing of how we are built");
        back.push(id(&bounce));
    }
    let names: Vec<_> = edge.trunk.sender.nodes().into_iter().map(|node| node.name).collect();
    assert_eq!(names, [domain("c2.example")]);
    assert!(second.trunk.incoming.try_recv().is_err(), "nothing that is not for it");
}

#[tokio::test]
async fn a_domain_moves_when_it_is_announced_elsewhere_and_the_first_is_preferred() {
    let ca = TestCa::new();
    let edge = edge(&ca, "edge.example", CORES, tuning()).await;
    let (one, two) = (announcing(&["ours.example", "b.example"]), announcing(&["b.example"]));
    let edges = [("edge.example", edge.address)];
    let mut second = core_for(&ca, "c2.example", two.subscribe(), &edges, tuning());
    edge.diary.wait("c2.example serves b.example", 1).await;
    let mut first = core_for(&ca, "c1.example", one.subscribe(), &edges, tuning());
    edge.diary.wait("c1.example serves ours.example b.example", 1).await;
    for number in 0..5 {
        edge.trunk.sender.send(to("b.example", number)).await.unwrap();
    }
    let mut held = Vec::new();
    for number in numbers(5) {
        let transfer = soon(first.trunk.incoming.recv()).await.unwrap();
        assert_eq!(id(&transfer), number);
        held.push(transfer);
    }
    // It moves, once what is under way has arrived: order holds.
    one.send_replace(vec![domain("ours.example"), domain("b.example")]);
    one.send_replace(Vec::new());
    edge.diary.wait("c1.example serves ", 1).await;
    let sender = edge.trunk.sender.clone();
    let (sent, ()) = tokio::join!(soon(sender.send(to("b.example", 5))), async {
        assert!(second.trunk.incoming.try_recv().is_err());
        held.clear();
    });
    sent.unwrap();
    assert_eq!(id(&soon(second.trunk.incoming.recv()).await.unwrap()), 5);
}
