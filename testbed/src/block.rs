use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::failure::Failure;
use crate::port;
use crate::shape::Shape;

/// The last octet that is listened on for as long as the block is in use; the operating system
/// gives it back whatever happens.
const CLAIM: u8 = 253;

/// A block of 254 loopback addresses that belongs to one scenario.
#[derive(Debug)]
pub(crate) struct Block {
    second: u8,
    third: u8,
    _claim: TcpListener,
}

impl Block {
    /// Takes the first free block for this scenario and shape.
    pub(crate) fn claim(number: u8, shape: Shape) -> Result<Self, Failure> {
        // 127.0.x.x is left to everybody else.
        let second = number.saturating_add(1);
        let first = match shape {
            Shape::None | Shape::One => 0,
            Shape::Two => 1,
        };
        let block = (first..=u8::MAX)
            .step_by(2)
            .find_map(|third| {
                let address = Ipv4Addr::new(127, second, third, CLAIM);
                let claim = TcpListener::bind((address, port::CLAIM)).ok()?;
                Some(Self { second, third, _claim: claim })
            })
            .ok_or_else(|| Failure::world(format!("no free addresses in 127.{second}.0.0/16")))?;
        block.refuse_strangers().map(|()| block)
    }

    /// Makes sure that nobody listens on all addresses at one of our ports: whoever did would answer
    /// in the place of a server of the scenario.
    fn refuse_strangers(&self) -> Result<(), Failure> {
        match port::ALL.iter().find(|port| TcpListener::bind(self.at(CLAIM, **port)).is_err()) {
            Some(port) => Err(Failure::world(format!(
                "port {port} is taken on all addresses; `ss -ltnp` tells by whom: stop it"
            ))),
            None => Ok(()),
        }
    }

    /// One address of the block.
    pub(crate) fn host(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.second, self.third, last).into()
    }

    /// One address and port of the block.
    pub(crate) fn at(&self, last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(last), port)
    }

    /// The first three octets, as records write them.
    pub(crate) fn net(&self) -> String {
        format!("127.{}.{}", self.second, self.third)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_nobody_elses_until_it_is_dropped() {
        let one = Block::claim(250, Shape::One).unwrap();
        let again = Block::claim(250, Shape::One).unwrap();
        let two = Block::claim(250, Shape::Two).unwrap();
        assert_ne!(one.net(), again.net());
        assert_ne!(one.net(), two.net());

        let net = one.net();
        drop(one);
        assert_eq!(Block::claim(250, Shape::One).unwrap().net(), net);
    }
}
