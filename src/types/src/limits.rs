use std::time::Duration;

/// What one peer connection may cost us. Every field is a bound; there is no "unlimited".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamLimits {
    /// Longest first-level element before the peer is authenticated, in bytes.
    pub unauthenticated_element_bytes_max: usize,
    /// Longest stanza once the peer is authenticated, in bytes.
    pub stanza_bytes_max: usize,
    /// How deep elements may nest, the stream element included.
    pub depth_max: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes_max: usize,
    /// Children of one element.
    pub children_max: usize,
    /// Stanzas waiting to be written before the next one is handed back.
    pub send_queue_len_max: usize,
    /// From TCP accept to an authenticated stream.
    pub setup_timeout: Duration,
    /// Silence after which we ask (or close, where there is nothing to ask).
    pub idle_timeout: Duration,
    /// How long the peer may leave our writes unread.
    pub write_timeout: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            unauthenticated_element_bytes_max: 10_000,
            stanza_bytes_max: 512 * 1024,
            depth_max: 64,
            attributes_max: 64,
            children_max: 4096,
            send_queue_len_max: 256,
            setup_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(15 * 60),
            write_timeout: Duration::from_secs(30),
        }
    }
}

impl StreamLimits {
    /// Limits for a client's stream: smaller stanzas than a server's.
    pub fn client() -> Self {
        Self { stanza_bytes_max: 256 * 1024, ..Self::default() }
    }
}
