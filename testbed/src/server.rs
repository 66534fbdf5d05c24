use std::path::PathBuf;

use crate::block::Block;
use crate::ejabberd::Ejabberd;
use crate::failure::Failure;
use crate::kamailio::Kamailio;
use crate::process::Process;
use crate::prosody::{Prosody, Surroundings};
use crate::world::{Kind, Peer};

/// A real server in one scenario, whatever program it is.
pub(crate) enum Server {
    /// Prosody.
    Prosody(Prosody),
    /// ejabberd.
    Ejabberd(Ejabberd),
    /// Kamailio.
    Kamailio(Kamailio),
}

impl Server {
    /// A server at the last octet `address` whose files are in `directory`.
    pub(crate) fn new(peer: &Peer, address: u8, directory: PathBuf) -> Self {
        match peer.kind {
            Kind::Prosody => Self::Prosody(Prosody::new(peer.clone(), address, directory)),
            Kind::Ejabberd => Self::Ejabberd(Ejabberd::new(peer.clone(), address, directory)),
            Kind::Kamailio => Self::Kamailio(Kamailio::new(peer.clone(), address, directory)),
        }
    }

    /// The domain of a Prosody, whose certificate lies beside its settings.
    pub(crate) fn domain(&self) -> Option<&str> {
        match self {
            Self::Prosody(prosody) => Some(prosody.domain()),
            Self::Ejabberd(_) | Self::Kamailio(_) => None,
        }
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        match self {
            Self::Prosody(prosody) => prosody.log(),
            Self::Ejabberd(ejabberd) => ejabberd.log(),
            Self::Kamailio(kamailio) => kamailio.log(),
        }
    }

    /// Writes its configuration and its accounts. `hosts` is a hosts file, for whoever wants one.
    pub(crate) fn prepare(
        &self,
        surroundings: &Surroundings<'_>,
        hosts: &str,
    ) -> Result<(), Failure> {
        match self {
            Self::Prosody(prosody) => prosody.prepare(surroundings),
            Self::Ejabberd(ejabberd) => ejabberd.prepare(surroundings, hosts),
            Self::Kamailio(kamailio) => kamailio.prepare(surroundings),
        }
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, block: &Block) -> Result<Process, Failure> {
        match self {
            Self::Prosody(prosody) => prosody.start(block),
            Self::Ejabberd(ejabberd) => ejabberd.start(block),
            Self::Kamailio(kamailio) => kamailio.start(block),
        }
    }
}
