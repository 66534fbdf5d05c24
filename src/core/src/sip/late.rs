use std::collections::VecDeque;
use std::sync::Arc;

use gatehouse_sip::Message;

/// While so many wait, nothing is read from the edges either.
const READ_UNTIL: usize = 4096;
/// Messages that wait for all edges together: as many as there may be transactions, and the answers
/// to what was read until then.
const LEN_MAX: usize = 32 * 1024;

/// Messages for edges that have no room at the moment, in order for each. One step of the gateway can
/// bring about thousands; an edge takes them as it sends them on.
#[derive(Debug, Default)]
pub(super) struct Late {
    edges: Vec<(Arc<str>, VecDeque<Message>)>,
    len: usize,
}

impl Late {
    /// True if nothing waits: more may be taken from users.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True while more may be read from the edges: mostly answers, which make room.
    pub(super) fn may_read(&self) -> bool {
        self.len < READ_UNTIL
    }

    /// True if something waits for this edge, so that what comes now must wait behind it.
    pub(super) fn waits_for(&self, edge: &str) -> bool {
        self.edges.iter().any(|(name, queue)| &**name == edge && !queue.is_empty())
    }

    /// The edges that something waits for.
    pub(super) fn edges(&self) -> Vec<Arc<str>> {
        let waiting = self.edges.iter().filter(|(_, queue)| !queue.is_empty());
        waiting.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Keeps a message; gives it back if there is no room for it here, either.
    pub(super) fn push(&mut self, edge: &Arc<str>, message: Message) -> Result<(), Box<Message>> {
        if self.len >= LEN_MAX {
            return Err(Box::new(message));
        }
        self.len += 1;
        match self.edges.iter_mut().find(|(name, _)| name == edge) {
            Some((_, queue)) => queue.push_back(message),
            // Edges are named in the settings, so there are few.
            None => self.edges.push((Arc::clone(edge), VecDeque::from([message]))),
        }
        Ok(())
    }

    /// Puts back what an edge did not take, before all that came later.
    pub(super) fn put_back(&mut self, edge: &str, message: Message) {
        if let Some((_, queue)) = self.edges.iter_mut().find(|(name, _)| &**name == edge) {
            self.len += 1;
            queue.push_front(message);
        }
    }

    /// The oldest for this edge.
    pub(super) fn pop(&mut self, edge: &str) -> Option<Message> {
        let (_, queue) = self.edges.iter_mut().find(|(name, _)| &**name == edge)?;
        let message = queue.pop_front()?;
        self.len -= 1;
        Some(message)
    }
}
