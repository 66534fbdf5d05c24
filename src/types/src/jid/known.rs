//! Addresses that were read lately.
//!
//! On a stream the same few addresses come again and again, and to prepare one costs more than
//! anything else that is done with a short stanza.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Jid;

/// Places for addresses, in each thread. Each has one, and takes it from whoever had it before.
const PLACES: usize = 256;
/// Longer ones are read anew each time.
const BYTES_MAX: usize = 256;

/// What was written, and what it means.
type Place = Option<(Box<str>, Jid)>;

thread_local! {
    static KNOWN: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// The address that was read from this very text, or what `read` makes of it.
pub(super) fn find_or<E>(text: &str, read: impl FnOnce(&str) -> Result<Jid, E>) -> Result<Jid, E> {
    if text.len() > BYTES_MAX {
        return read(text);
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let place = usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default();
    KNOWN.with_borrow_mut(|known| {
        if known.is_empty() {
            known.resize_with(PLACES, || None);
        }
        match known.get(place) {
            Some(Some((same, jid))) if **same == *text => Ok(jid.clone()),
            _ => {
                let jid = read(text)?;
                if let Some(place) = known.get_mut(place) {
                    *place = Some((text.into(), jid.clone()));
                }
                Ok(jid)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_same_text_is_read_once_and_another_is_not_taken_for_it() {
        let count = Cell::new(0);
        let read = |text: &str| {
            find_or(text, |text| {
                count.set(count.get() + 1);
                Jid::prepare(text)
            })
        };
        let jid = read("Juliet@them.example/x").unwrap();
        assert_eq!(read("Juliet@them.example/x").unwrap(), jid);
        assert_ne!(read("Juliet@them.example/X").unwrap(), jid);
        // More than there are places for, and each is what it says.
        for _ in 0..2 {
            for number in 0..3 * PLACES {
                let text = format!("a{number}@them.example");
                assert_eq!(read(&text).unwrap().to_string(), text);
            }
        }
        for _ in 0..2 {
            assert!(read("no address/").is_err());
        }
        let long = format!("{}@them.example", "a".repeat(BYTES_MAX));
        let before = count.get();
        let both = [read(&long).unwrap(), read(&long).unwrap()];
        assert_eq!(both[0], both[1]);
        assert_eq!(count.get(), before + 2);
    }
}
