//! Attributes without a namespace, which is nearly all of them.

use minidom::Element;
use rxml::Namespace;

/// No namespace: the same as [`Namespace::NONE`] in meaning, and cheaper to compare.
///
/// A map of attributes compares namespaces by `memcmp`, the empty one by `memcmp` of no bytes. An
/// empty literal has no place in memory. glibc's variant for AVX-512 loads from there all the same,
/// with everything masked out, and some processors take hundreds of cycles to find that no harm was
/// done: a tenth of what a message cost. This one has a place.
pub(crate) const NO_NAMESPACE: Namespace<'static> = Namespace::from_str("none".split_at(0).0);

/// The value of the attribute with this name in no namespace.
pub(crate) fn plain<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    let mut plain = element.attrs().iter().take_while(|((namespace, _), _)| namespace.is_none());
    plain.find(|((_, known), _)| known.as_str() == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_has_a_place_in_memory() {
        assert_eq!(NO_NAMESPACE, Namespace::NONE);
        assert!(NO_NAMESPACE.as_str().as_ptr().addr() > 4096);
    }

    #[test]
    fn only_what_has_no_namespace_is_plain() {
        let element: Element =
            "<a xmlns='u' xmlns:p='p' p:id='2' id='1' p:to='3' xml:lang='de' x=''/>"
                .parse()
                .unwrap();
        assert_eq!(plain(&element, "id"), Some("1"));
        assert_eq!(plain(&element, "x"), Some(""));
        for absent in ["to", "lang", "i", "idx", ""] {
            assert_eq!(plain(&element, absent), None, "{absent}");
        }
    }
}
