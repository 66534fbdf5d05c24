use std::sync::Arc;

use tokio::sync::mpsc;

use super::link::QUEUE_LEN_MAX;
use super::queue::Queue;
use super::{FromEdge, FromNode, SipCoreEnd, SipEdgeEnd, SipEdges, SipNodes};

/// What the two ends call each other in one process.
const CORE: &str = "core";
const EDGE: &str = "edge";

/// Both ends, for edge and core in one process: (core's end, edge's end).
pub fn in_process() -> (SipCoreEnd, SipEdgeEnd) {
    let ((to_core, core), (to_edge, edge)) = (core_end(), edge_end());
    join(&core.edges, &to_core, CORE, &edge.nodes, &to_edge, EDGE);
    (core, edge)
}

/// Every node linked with every edge, for tests of what happens between several of them: the ends
/// in the order of their names.
pub fn mesh(nodes: &[&str], edges: &[&str]) -> (Vec<SipCoreEnd>, Vec<SipEdgeEnd>) {
    let (to_nodes, cores): (Vec<_>, Vec<_>) = nodes.iter().map(|_| core_end()).unzip();
    let (to_edges, ends): (Vec<_>, Vec<_>) = edges.iter().map(|_| edge_end()).unzip();
    for ((name, to_core), core) in nodes.iter().zip(&to_nodes).zip(&cores) {
        for ((edge_name, to_edge), edge) in edges.iter().zip(&to_edges).zip(&ends) {
            join(&core.edges, to_core, name, &edge.nodes, to_edge, edge_name);
        }
    }
    (cores, ends)
}

fn core_end() -> (mpsc::Sender<FromEdge>, SipCoreEnd) {
    let (sender, incoming) = mpsc::channel(QUEUE_LEN_MAX);
    (sender, SipCoreEnd { edges: SipEdges::default(), incoming })
}

fn edge_end() -> (mpsc::Sender<FromNode>, SipEdgeEnd) {
    let (sender, incoming) = mpsc::channel(QUEUE_LEN_MAX);
    (sender, SipEdgeEnd { nodes: SipNodes::default(), incoming })
}

fn join(
    edges: &SipEdges,
    to_core: &mpsc::Sender<FromEdge>,
    core: &str,
    nodes: &SipNodes,
    to_edge: &mpsc::Sender<FromNode>,
    edge: &str,
) {
    let (core, edge): (Arc<str>, Arc<str>) = (core.into(), edge.into());
    let straight = Queue::Straight { own: Arc::clone(&core), queue: to_edge.clone() };
    edges.up(Arc::clone(&edge), 0, straight);
    nodes.up(core, Queue::Straight { own: edge, queue: to_core.clone() });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatehouse_sip::{Message, Method, Uri};

    use super::*;
    use crate::sip::Edge;

    fn message(method: Method) -> Message {
        Message::request(method, Uri::parse("sip:them.example").unwrap())
    }

    #[tokio::test]
    async fn each_end_hears_the_other_by_name() {
        let (mut core, mut edge) = in_process();
        core.edges.send(Edge::For("a call"), message(Method::Invite)).unwrap();
        let heard = edge.incoming.recv().await.unwrap();
        assert_eq!((&*heard.node, heard.message.method()), ("core", Some(Method::Invite)));
        edge.nodes.send("core", message(Method::Bye)).unwrap();
        let heard = core.incoming.recv().await.unwrap();
        assert_eq!((&*heard.edge, heard.message.method()), ("edge", Some(Method::Bye)));
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_or_does_not_read_gives_the_message_back() {
        let (core, edge) = in_process();
        let back = edge.nodes.send("another", message(Method::Bye)).unwrap_err();
        assert_eq!(back.to_string(), "another cannot be reached: it is not connected");
        for _ in 0..QUEUE_LEN_MAX {
            edge.nodes.send("core", message(Method::Bye)).unwrap();
        }
        let back = edge.nodes.send("core", message(Method::Bye)).unwrap_err();
        assert_eq!(back.to_string(), "core cannot be reached: its queue is full");
        let back = edge.nodes.offer("core", message(Method::Bye)).unwrap_err();
        assert!(back.is_full());
        drop(core);
        let back = edge.nodes.send("core", message(Method::Bye)).unwrap_err();
        assert_eq!(back.to_string(), "core cannot be reached: its link is down");
        assert_eq!(back.message.method(), Some(Method::Bye));
    }
    #[tokio::test(start_paused = true)]
    async fn requests_leave_room_for_answers_and_an_answer_waits_for_it() {
        let (mut core, edge) = in_process();
        let taken = (0..2000).filter(|_| edge.nodes.offer("core", message(Method::Invite)).is_ok());
        assert_eq!(taken.count(), QUEUE_LEN_MAX * 3 / 4);
        while edge.nodes.send("core", message(Method::Ack)).is_ok() {}
        let second = Duration::from_secs(1);
        let late = edge.nodes.send_within("core", message(Method::Bye), second).await;
        let late = late.unwrap_err();
        assert!(late.is_full() && late.message.method() == Some(Method::Bye));
        // One that waits goes before who asks later, and is told when nobody reads any more.
        let waits = edge.nodes.send_within("core", message(Method::Bye), second);
        let reads = async {
            tokio::task::yield_now().await;
            core.incoming.recv().await.unwrap();
            assert!(edge.nodes.send("core", message(Method::Ack)).is_err());
        };
        let (sent, ()) = tokio::join!(waits, reads);
        sent.unwrap();
        let waits = edge.nodes.send_within("core", message(Method::Bye), second);
        let leaves = async {
            tokio::task::yield_now().await;
            drop(core);
        };
        let (sent, ()) = tokio::join!(waits, leaves);
        assert_eq!(sent.unwrap_err().to_string(), "core cannot be reached: its link is down");
    }
}
