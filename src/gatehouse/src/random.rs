use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use gatehouse_types::Secret;

use crate::commands::Failure;

/// 32 bytes from the operating system.
pub(crate) fn bytes() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::new("the operating system gives no random bytes"))?;
    Ok(bytes)
}

/// 32 bytes to keep.
pub(crate) fn secret() -> Result<Secret<Vec<u8>>, Failure> {
    Ok(Secret::new(bytes()?.to_vec()))
}
