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

/// The other half has other limits: it refuses what we thought it would take.
#[tokio::test]
async fn what_the_peer_refuses_again_and_again_is_given_up() {
    let ca = TestCa::new();
    let mut narrow = tuning();
    narrow.limits.stanza_bytes_max = 20_000;
    let mut edge = edge(&ca, "edge.example", &["core.example"], narrow).await;
    let mut core = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    core.trunk.sender.send(heavy(0, 30_000)).await.unwrap();
    core.trunk.sender.send(out(1)).await.unwrap();
    assert_author_is_told(&mut core, 0).await;
    assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), 1);
    let downs = core.diary.entries().iter().filter(|entry| entry.starts_with("down")).count();
    assert_eq!(downs, 3);
}
