use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream: what a handshake runs over, and what comes out of it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
