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
    /// Elements in one first-level element. An element costs some hundred bytes of memory however
    /// few it takes on the wire, so the byte limit alone would let a peer have fifty times what it
    /// sends.
    pub elements_max: usize,
    /// Namespace declarations in force at once, over all open elements. A look-up walks them all,
    /// so this bounds the work that one prefix costs.
    pub declarations_max: usize,
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
            elements_max: 16_384,
            declarations_max: 256,
            send_queue_len_max: 256,
            setup_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(15 * 60),
            write_timeout: Duration::from_secs(30),
        }
    }
}

impl StreamLimits {
    /// The longest stanza that may be configured for any stream to the outside, in bytes.
    pub const STANZA_BYTES_CEILING: usize = 16 << 20;

    /// Limits for a client's stream: smaller stanzas than a server's.
    pub fn client() -> Self {
        Self { stanza_bytes_max: 256 * 1024, ..Self::default() }
    }
    /// Limits for a stream between our own nodes, both proven: looser than those of any stream to
    /// the outside, so that whatever one of those let in can cross, with all that we add to it.
    pub fn trunk() -> Self {
        let outside = Self::default();
        Self {
            // What a reference may add to one byte of text, and room for what we add.
            stanza_bytes_max: 6 * Self::STANZA_BYTES_CEILING,
            depth_max: outside.depth_max + 16,
            attributes_max: 2 * outside.attributes_max + 8,
            children_max: outside.children_max + 256,
            elements_max: outside.elements_max + 1024,
            declarations_max: 2 * outside.declarations_max,
            ..outside
        }
    }
}
