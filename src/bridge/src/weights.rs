//! How much memory the messages of users take that have no answer.

use std::collections::HashMap;

use gatehouse_types::Jid;

use crate::effect::{Receipt, Whose};

/// What is carried for whom, in bytes. Counted up when a message is queued, and down when its receipt
/// is settled, however that comes about.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    total: usize,
    users: HashMap<Jid, usize>,
    messages: HashMap<Receipt, (Jid, usize)>,
}

/// The bounds of [`Weights`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightLimits {
    pub(crate) total: usize,
    pub(crate) per_user: usize,
}

impl Weights {
    /// Counts a message, if all bounds allow it; else says whose is reached.
    pub(crate) fn try_add(
        &mut self,
        receipt: Receipt,
        user: &Jid,
        weight: usize,
        limits: WeightLimits,
    ) -> Result<(), Whose> {
        let of_user = self.users.get(user).copied().unwrap_or_default();
        if of_user.saturating_add(weight) > limits.per_user {
            return Err(Whose::User);
        }
        if self.total.saturating_add(weight) > limits.total {
            return Err(Whose::Node);
        }
        self.total += weight;
        *self.users.entry(user.clone()).or_default() += weight;
        self.messages.insert(receipt, (user.clone(), weight));
        Ok(())
    }

    /// The message is not carried any more; it need not have been counted.
    pub(crate) fn remove(&mut self, receipt: Receipt) {
        let Some((user, weight)) = self.messages.remove(&receipt) else { return };
        self.total -= weight;
        if let Some(of_user) = self.users.get_mut(&user) {
            *of_user -= weight;
            if *of_user == 0 {
                self.users.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_holds_and_what_is_settled_makes_room() {
        let (a, b): (Jid, Jid) = ("a@x.example".parse().unwrap(), "b@x.example".parse().unwrap());
        let limits = WeightLimits { total: 15, per_user: 10 };
        let mut weights = Weights::default();
        for (receipt, user, weight, expected) in [
            (1, &a, 6, Ok(())),
            (2, &a, 5, Err(Whose::User)),
            (3, &a, 4, Ok(())),
            (4, &b, 6, Err(Whose::Node)),
            (5, &b, 5, Ok(())),
        ] {
            assert_eq!(weights.try_add(Receipt(receipt), user, weight, limits), expected);
        }
        for receipt in [2, 4, 1, 1] {
            weights.remove(Receipt(receipt));
        }
        assert_eq!(weights.try_add(Receipt(6), &b, 5, limits), Ok(()));
        for receipt in 0..10 {
            weights.remove(Receipt(receipt));
        }
        assert!(weights.total == 0 && weights.users.is_empty() && weights.messages.is_empty());
    }
}
