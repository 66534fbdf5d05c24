use gatehouse_testkit::TestCa;
use gatehouse_xmpp::Stanza;

use super::world::{core, edge, id, out, soon, tuning};

fn heavy(id: usize, bytes: usize) -> Stanza {
    let mut stanza = out(id);
    stanza.payload_mut().append_text("x".repeat(bytes));
    stanza
}

async fn assert_author_is_told(core: &mut super::world::Node, number: usize) {
    let bounce = soon(core.trunk.incoming.recv()).await.unwrap();
    assert_eq!((id(&bounce), bounce.stanza.type_()), (number, Some("error")));
    let error = bounce.stanza.element().children().next().unwrap();
    assert_eq!(error.children().next().unwrap().name(), "policy-violation");
}

#[tokio::test]
async fn what_is_too_long_goes_back_and_the_rest_goes_on() {
    let ca = TestCa::new();
    let mut narrow = tuning();
    narrow.limits.stanza_bytes_max = 20_000;
    let mut edge = edge(&ca, "edge.example", &["core.example"], narrow.clone()).await;
    let mut core = core(&ca, "core.example", &[("edge.example", edge.address)], narrow);
    for stanza in [out(0), heavy(1, 30_000), out(2)] {
        core.trunk.sender.send(stanza).await.unwrap();
    }
    assert_author_is_told(&mut core, 1).await;
    for number in [0, 2] {
        assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), number);
    }
    assert_eq!(core.diary.entries(), ["up edge.example"]);
}

/// The other half has other limits: it refuses what we thought it would take, and says which it
/// was. Nothing else comes back or comes twice, whatever is still being worked on.
#[tokio::test]
async fn what_the_peer_refuses_is_given_up_at_once() {
    let ca = TestCa::new();
    let mut narrow = tuning();
    narrow.limits.stanza_bytes_max = 20_000;
    let mut edge = edge(&ca, "edge.example", &["core.example"], narrow).await;
    let mut core = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    for stanza in [out(0), heavy(1, 30_000), out(2)] {
        core.trunk.sender.send(stanza).await.unwrap();
    }
    let innocent = soon(edge.trunk.incoming.recv()).await.unwrap();
    assert_author_is_told(&mut core, 1).await;
    assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), 2);
    drop(innocent);
    core.trunk.sender.send(out(3)).await.unwrap();
    assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), 3);
    assert_eq!(core.diary.entries(), ["up edge.example", "down edge.example", "up edge.example"]);
}
