use std::io;
use std::time::Duration;

use aws_lc_rs::rand;
use gatehouse_xmpp::Seed;

/// A seed for one stream.
pub(crate) fn seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(Seed::new(bytes))
}

/// `pause`, a quarter longer or shorter, so that many nodes do not come back in step.
pub(crate) fn jitter(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is just no jitter.
    let _ = rand::fill(&mut byte);
    let [byte] = byte;
    pause.mul_f64(0.75 + f64::from(byte) / 512.0)
}
