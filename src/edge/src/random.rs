use gatehouse_xmpp::Seed;
use parking_lot::Mutex;

/// The edge's source of randomness: seeded once by the system, shared by all streams.
#[derive(Debug)]
pub(crate) struct Random(Mutex<Seed>);

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator does not work")]
pub(crate) struct NoRandomness;

impl Random {
    pub(crate) fn from_system() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(Mutex::new(Seed::new(bytes))))
    }

    /// A seed for one stream.
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.0.lock().next_bytes())
    }

    /// The id under which a stream is logged until it has its own.
    pub(crate) fn id(&self) -> String {
        let mut id = self.0.lock().next_hex();
        id.truncate(16);
        id
    }

    /// A number that nobody can guess.
    pub(crate) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0.lock().next_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Draws from `0..=max`.
    pub(crate) fn up_to(&self, max: u32) -> u32 {
        let [a, b, c, d, ..] = self.0.lock().next_bytes();
        let draw = u64::from(u32::from_be_bytes([a, b, c, d]));
        // Scaled, not modulo: the bias is below one in 2^16 for the 16-bit weights this is for.
        u32::try_from((draw * (u64::from(max) + 1)) >> 32).unwrap_or(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_range_and_reach_its_ends() {
        let random = Random(Mutex::new(Seed::new([7; 32])));
        assert!((0..100).all(|_| random.up_to(0) == 0));
        let draws: Vec<u32> = (0..200).map(|_| random.up_to(2)).collect();
        for want in 0..=2 {
            assert!(draws.contains(&want), "{want} never came");
        }
        assert!(draws.iter().all(|draw| *draw <= 2));
    }
}
