use crate::parcel::Pair;

/// How strongly `node` wants `pair`; the live node with the highest score gets it, so that a pair
/// moves only when its node is lost (rendezvous hashing). The same in every process.
pub(crate) fn score(pair: &Pair, node: &str) -> u64 {
    let mut hash = Fnv::new();
    for part in [&pair.from, &pair.to] {
        hash.add(part.as_ref().map_or("", |domain| domain.as_str()).as_bytes());
        hash.add(&[0]);
    }
    hash.add(node.as_bytes());
    hash.finish()
}

/// FNV-1a, with a finish that spreads the last bytes over all bits. Not for anything secret.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: usize) -> Pair {
        Pair {
            from: Some("ours.example".parse().unwrap()),
            to: Some(format!("d{number}.example").parse().unwrap()),
        }
    }

    fn choose(pair: &Pair, nodes: &[&'static str]) -> &'static str {
        nodes.iter().max_by_key(|node| score(pair, node)).unwrap()
    }

    #[test]
    fn nodes_share_and_only_a_lost_nodes_pairs_move() {
        let (all, left) =
            (["e1.example", "e2.example", "e3.example"], ["e1.example", "e3.example"]);
        let mut counts = [0; 3];
        for number in 0..3000 {
            let chosen = choose(&pair(number), &all);
            counts[all.iter().position(|node| *node == chosen).unwrap()] += 1;
            if chosen != "e2.example" {
                assert_eq!(choose(&pair(number), &left), chosen);
            }
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
