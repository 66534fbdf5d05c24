use std::sync::Arc;

use tokio::sync::mpsc;

use super::queue::Queue;
use super::{Node, SipCoreEnd, SipEdgeEnd, SipEdges, SipNodes};

/// Messages that wait in each direction.
const QUEUE_LEN_MAX: usize = 1024;

/// What the two ends call each other in one process.
const CORE: &str = "core";
const EDGE: &str = "edge";

/// Both ends, for edge and core in one process: (core's end, edge's end).
pub fn in_process() -> (SipCoreEnd, SipEdgeEnd) {
    let (core, edge): (Arc<str>, Arc<str>) = (CORE.into(), EDGE.into());
    let (to_core, at_core) = mpsc::channel(QUEUE_LEN_MAX);
    let (to_edge, at_edge) = mpsc::channel(QUEUE_LEN_MAX);
    let (edges, nodes) = (SipEdges::default(), SipNodes::default());
    edges.up(Arc::clone(&edge), 0, Queue::Straight { own: Arc::clone(&core), queue: to_edge });
    let node = Node { name: core, domains: Vec::new() };
    nodes.up(node, Queue::Straight { own: edge, queue: to_core });
    (SipCoreEnd { edges, incoming: at_core }, SipEdgeEnd { nodes, incoming: at_edge })
}

#[cfg(test)]
mod tests {
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
        drop(core);
        let back = edge.nodes.send("core", message(Method::Bye)).unwrap_err();
        assert_eq!(back.to_string(), "core cannot be reached: its link is down");
        assert_eq!(back.message.method(), Some(Method::Bye));
    }
}
