use std::path::Path;

/// Runs `check` on all that the corpus of a fuzz target holds; there must be something.
///
/// # Panics
/// With what `check` panics with, or if there is no such corpus.
pub fn replay(target: &str, check: fn(&[u8])) {
    let corpora = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testbed/fuzz/corpus"));
    let corpus = corpora.join(target);
    let entries: Vec<_> = std::fs::read_dir(&corpus).expect("a corpus").collect();
    assert!(!entries.is_empty(), "there is a corpus for {target}");
    for entry in entries {
        let path = entry.expect("a file of the corpus").path();
        check(&std::fs::read(path).expect("a file of the corpus"));
    }
}
