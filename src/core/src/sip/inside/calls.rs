use std::collections::{HashMap, VecDeque};

/// How many calls are remembered; one that is forgotten is routed anew.
const CALLS_MAX: usize = 20_000;

/// Which connection each call (by Call-ID) uses, the newest of them.
#[derive(Debug, Default)]
pub(super) struct Calls {
    flows: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Calls {
    pub(super) fn remember(&mut self, call: String, flow: u64) {
        if self.flows.insert(call.clone(), flow).is_some() {
            return;
        }
        self.order.push_back(call);
        if self.order.len() > CALLS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.flows.remove(&oldest);
        }
    }

    pub(super) fn flow(&self, call: &str) -> Option<u64> {
        self.flows.get(call).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_and_the_oldest_goes() {
        let mut calls = Calls::default();
        for call in 0..=CALLS_MAX {
            calls.remember(call.to_string(), 1);
        }
        calls.remember("1".to_owned(), 2);
        assert_eq!((calls.flow("0"), calls.flow("1")), (None, Some(2)));
        assert_eq!((calls.flows.len(), calls.order.len()), (CALLS_MAX, CALLS_MAX));
    }
}
