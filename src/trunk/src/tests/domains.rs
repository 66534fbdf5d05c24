use std::time::Duration;

use gatehouse_testkit::TestCa;
use gatehouse_types::Domain;
use tokio::sync::watch;

use super::world::{
    Proxy, core_for, domain, edge, edge_of, id, message, numbers, row, soon, tuning,
};
use crate::{Node, Transfer, Tuning};

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

/// Two cores, each with its domain.
async fn apart(ca: &TestCa) -> super::world::Node {
    let rows = vec![row("c1.example", &["ours.example"]), row("c2.example", &["b.example"])];
    edge_of(ca, "edge.example", rows, tuning()).await
}

#[tokio::test]
async fn a_core_gets_nothing_for_a_domain_that_its_row_does_not_name() {
    let ca = TestCa::new();
    let edge = apart(&ca).await;
    let edges = [("edge.example", edge.address)];
    // The second says that it serves both, before the first is there.
    let (one, two) = (announcing(&["ours.example"]), announcing(&["ours.example", "b.example"]));
    let mut second = core_for(&ca, "c2.example", two.subscribe(), &edges, tuning());
    edge.diary.wait("c2.example serves b.example", 1).await;
    edge.diary.wait("c2.example overstepped", 1).await;
    assert!(edge.trunk.sender.try_send(to("ours.example", 0)).is_err());
    let mut first = core_for(&ca, "c1.example", one.subscribe(), &edges, tuning());
    edge.diary.wait("up c1.example", 1).await;
    for number in 1..4 {
        edge.trunk.sender.send(to("ours.example", number)).await.unwrap();
        assert_eq!(id(&soon(first.trunk.incoming.recv()).await.unwrap()), number);
    }
    edge.trunk.sender.send(to("b.example", 4)).await.unwrap();
    assert_eq!(id(&soon(second.trunk.incoming.recv()).await.unwrap()), 4);
    assert!(second.trunk.incoming.try_recv().is_err());
    // It says so again: that helps as little.
    two.send_replace(vec![domain("ours.example")]);
    edge.diary.wait("c2.example overstepped", 2).await;
    assert_eq!(edge.trunk.sender.nodes()[1].domains.len(), 0);
}

#[tokio::test]
async fn a_core_speaks_for_its_own_domains_only_and_its_author_is_told() {
    let ca = TestCa::new();
    let mut edge = apart(&ca).await;
    let edges = [("edge.example", edge.address)];
    let (one, two) = (announcing(&["ours.example"]), announcing(&["b.example"]));
    let mut first = core_for(&ca, "c1.example", one.subscribe(), &edges, tuning());
    let mut second = core_for(&ca, "c2.example", two.subscribe(), &edges, tuning());
    edge.diary.wait("c2.example serves b.example", 1).await;
    edge.diary.wait("up c1.example", 1).await;
    let forged = message("ours.example", "them.example", 1);
    let answer = forged
        .bounce(gatehouse_xmpp::ErrorKind::Cancel, gatehouse_xmpp::StanzaCondition::NotAllowed, "")
        .unwrap();
    second.trunk.sender.send(forged).await.unwrap();
    second.trunk.sender.send(message("b.example", "them.example", 2)).await.unwrap();
    // An error in the name of another goes nowhere, either: it is from `them.example`.
    second.trunk.sender.send(answer).await.unwrap();
    second.trunk.sender.send(message("b.example", "them.example", 3)).await.unwrap();
    first.trunk.sender.send(message("ours.example", "them.example", 4)).await.unwrap();
    let mut came = Vec::new();
    for _ in 0..3 {
        let transfer = soon(edge.trunk.incoming.recv()).await.unwrap();
        came.push((transfer.stanza.from().unwrap().domain().to_string(), id(&transfer)));
    }
    came.sort();
    let own = |domain: &str, id| (domain.to_owned(), id);
    assert_eq!(came, [own("b.example", 2), own("b.example", 3), own("ours.example", 4)]);
    // Who sent it is told, where it was sent from; the domain in whose name it was knows nothing.
    let told = soon(second.trunk.incoming.recv()).await.unwrap();
    assert_eq!((told.stanza.type_(), id(&told)), (Some("error"), 1));
    let error = told.stanza.element().children().next().unwrap();
    assert_eq!(error.children().next().unwrap().name(), "not-allowed");
    assert!(!error.text().contains("core") && !error.text().contains("trunk"), "{}", error.text());
    assert!(first.trunk.incoming.try_recv().is_err());
    assert!(second.trunk.incoming.try_recv().is_err(), "an error is not answered");
    edge.diary.wait("c2.example overstepped", 2).await;
}

#[tokio::test]
async fn what_is_refused_is_acknowledged_whatever_breaks() {
    let ca = TestCa::new();
    let mut edge = apart(&ca).await;
    let proxy = Proxy::to(edge.address).await;
    let (_two, served) = watch::channel(vec![domain("b.example")]);
    let edges = [("edge.example", proxy.address)];
    let mut second = core_for(&ca, "c2.example", served, &edges, tuning());
    // More than a window holds.
    let len = 3 * tuning().window.len_max;
    for number in 0..len {
        let from = if number % 50 == 49 { "b.example" } else { "ours.example" };
        soon(second.trunk.sender.send(message(from, "them.example", number))).await.unwrap();
        if number % 500 == 250 {
            proxy.cut();
        }
    }
    for number in (0..len).filter(|number| number % 50 == 49) {
        assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), number);
    }
    // Each is told once at most, in order: an answer waits for nobody, and may be left out.
    let (mut last, dispatch) = (None, second.trunk.sender.dispatch());
    soon(async {
        while dispatch.pinned() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    while let Ok(told) = second.trunk.incoming.try_recv() {
        assert!(last < Some(id(&told)), "{last:?} before {}", id(&told));
        last = Some(id(&told));
    }
    assert!(last.is_some());
}

/// Users of two cores write to each other: the edge passes it on, and the one who sent it has it until
/// the other has.
#[tokio::test]
async fn what_one_core_sends_to_another_is_passed_on_or_comes_back() {
    let ca = TestCa::new();
    let rows = vec![row("c1.example", &["ours.example"]), row("c2.example", &["b.example"])];
    let mut edge = edge_of(&ca, "edge.example", rows, hasty()).await;
    let proxy = Proxy::to(edge.address).await;
    let (one, two) = (announcing(&["ours.example"]), announcing(&["b.example"]));
    let first = [("edge.example", edge.address)];
    let first = core_for(&ca, "c1.example", one.subscribe(), &first, tuning());
    let second = [("edge.example", proxy.address)];
    let mut second = core_for(&ca, "c2.example", two.subscribe(), &second, tuning());
    edge.diary.wait("up c1.example", 1).await;
    edge.diary.wait("c2.example serves b.example", 1).await;
    let sender = edge.trunk.sender.clone();
    let pass = async |edge: &mut super::world::Node, to: &str, number| {
        first.trunk.sender.send(message("ours.example", to, number)).await.unwrap();
        let Transfer { stanza, receipt } = soon(edge.trunk.incoming.recv()).await.unwrap();
        sender.pass_on(stanza, receipt)
    };
    for number in 0..3 {
        pass(&mut edge, "b.example", number).await.unwrap();
    }
    let mut held = Vec::new();
    for number in 0..3 {
        let transfer = soon(second.trunk.incoming.recv()).await.unwrap();
        assert_eq!(id(&transfer), number);
        held.push(transfer);
    }
    // Not acknowledged to the first before the second is done with it.
    assert_eq!(first.trunk.sender.dispatch().pinned(), 3);
    held.clear();
    soon(async {
        while first.trunk.sender.dispatch().pinned() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nobody serves it; it would go round; the other is away.
    for (to, number) in [("c.example", 3), ("ours.example", 4)] {
        let (error, _receipt) = pass(&mut edge, to, number).await.unwrap_err();
        assert_eq!(error.stanza.id(), Some(number.to_string().as_str()));
    }
    proxy.turn(None);
    edge.diary.wait("down c2.example", 1).await;
    soon(async {
        let mut number = 5;
        while pass(&mut edge, "b.example", number).await.is_ok() {
            number += 1;
        }
    })
    .await;
}
