use std::time::Duration;

use tokio::sync::mpsc;

use crate::{Trunk, TrunkSender};

/// Stanzas that wait in each direction before `send` waits.
const QUEUE_LEN_MAX: usize = 1024;

/// How long a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both ends, for edge and core in one process: (core's end, edge's end).
pub fn in_process() -> (Trunk, Trunk) {
    let (to_edge, from_core) = mpsc::channel(QUEUE_LEN_MAX);
    let (to_core, from_edge) = mpsc::channel(QUEUE_LEN_MAX);
    let core =
        Trunk { sender: TrunkSender::in_process("edge", PATIENCE, to_edge), incoming: from_edge };
    let edge =
        Trunk { sender: TrunkSender::in_process("core", PATIENCE, to_core), incoming: from_core };
    (core, edge)
}
