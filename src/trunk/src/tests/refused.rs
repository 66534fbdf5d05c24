use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::Tasks;
use gatehouse_testkit::TestCa;
use gatehouse_tls::Keys;

use super::world::{Diary, Node, connector, core, domain, edge, keys, out, roots, soon, tuning};
use crate::{DialConfig, EdgeAddress, Tuning, dial};

fn hasty() -> Tuning {
    Tuning { patience: Duration::from_millis(700), ..tuning() }
}

/// A core that calls itself `own`, shows `keys` and trusts `ca`.
fn impostor(ca: &TestCa, own: &str, keys: &Keys, edge: SocketAddr) -> Node {
    let (tasks, diary) = (Tasks::default(), Diary::new());
    let config = DialConfig {
        own: domain(own),
        edges: vec![EdgeAddress { name: domain("edge.example"), address: edge.to_string() }],
        domains: tokio::sync::watch::channel(Vec::new()).1,
        tuning: hasty(),
        observer: Arc::new(diary.clone()),
    };
    let trunk = dial(config, connector(keys, &roots(ca)), &tasks);
    Node { trunk, diary, tasks, address: edge }
}

async fn assert_shut_out(core: &Node, edge: &mut Node) {
    let error = soon(core.trunk.sender.send(out(0))).await.unwrap_err();
    assert_eq!(error.role, "edge");
    assert_eq!(core.diary.entries(), Vec::<String>::new());
    assert_eq!(edge.diary.entries(), Vec::<String>::new());
    assert!(edge.trunk.incoming.try_recv().is_err());
}

#[tokio::test]
async fn a_core_that_is_not_listed() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let stranger = core(&ca, "other.example", &[("edge.example", edge.address)], hasty());
    assert_shut_out(&stranger, &mut edge).await;
}

#[tokio::test]
async fn a_core_with_a_certificate_for_another_name() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let certificate = ca.issue().dns("other.example").make();
    let shown = Keys::empty();
    shown
        .replace(vec![gatehouse_tls::KeyEntry {
            domains: vec![domain("core.example")],
            chain_pem: certificate.chain_pem,
            key_pem: certificate.key_pem,
        }])
        .unwrap();
    let liar = impostor(&ca, "core.example", &shown, edge.address);
    assert_shut_out(&liar, &mut edge).await;
}

#[tokio::test]
async fn a_core_with_a_certificate_from_another_authority() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let liar = impostor(&ca, "core.example", &keys(&other, "core.example"), edge.address);
    assert_shut_out(&liar, &mut edge).await;
}

#[tokio::test]
async fn a_core_without_a_certificate() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let nobody = impostor(&ca, "core.example", &Keys::empty(), edge.address);
    assert_shut_out(&nobody, &mut edge).await;
}

#[tokio::test]
async fn an_edge_with_another_name_or_authority() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    for mut edge in [
        edge(&ca, "e2.example", &["core.example"], tuning()).await,
        edge(&other, "edge.example", &["core.example"], tuning()).await,
    ] {
        let core = core(&ca, "core.example", &[("edge.example", edge.address)], hasty());
        assert_shut_out(&core, &mut edge).await;
    }
}
