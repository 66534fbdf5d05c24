use gatehouse_types::StreamLimits;

/// What an element may take.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) header_bytes_max: usize,
    pub(super) element_bytes_max: usize,
    pub(super) depth_max: usize,
    pub(super) attributes_max: usize,
    pub(super) children_max: usize,
    pub(super) elements_max: usize,
    pub(super) declarations_max: usize,
}

impl Bounds {
    pub(super) fn new(limits: &StreamLimits) -> Self {
        Self {
            header_bytes_max: limits.unauthenticated_element_bytes_max,
            element_bytes_max: limits.unauthenticated_element_bytes_max,
            depth_max: limits.depth_max,
            attributes_max: limits.attributes_max,
            children_max: limits.children_max,
            elements_max: limits.elements_max,
            declarations_max: limits.declarations_max,
        }
    }
}
