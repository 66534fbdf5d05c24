use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::stage::Stage;
use crate::world::Us;

/// What must hold at the end of every scenario, whatever it was about: nothing of ours panicked,
/// and nobody made us log an error, because a peer never may.
pub(crate) fn judge(us: &Us, stage: &Stage) -> Result<(), Failure> {
    for name in stage.gatehouse.iter().flat_map(|gatehouse| gatehouse.process_names()) {
        let file = stage.log(name)?;
        if let Some(line) = offence(&read(&file)?, &us.expected_errors) {
            return Err(Failure::world(format!("{name} must not log this: {line}")));
        }
    }
    Ok(())
}

fn offence(log: &str, expected: &[String]) -> Option<String> {
    let offends = |line: &&str| {
        line.contains("panicked at")
            || (line.contains(r#""level":"ERROR""#)
                && !expected.iter().any(|text| line.contains(text.as_str())))
    };
    log.lines().find(offends).map(str::to_owned)
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(Failure::io("read", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_offend() {
        let expected = ["disk full".to_owned()];
        assert_eq!(offence(r#"{"level":"WARN","message":"odd peer"}"#, &expected), None);
        assert_eq!(offence(r#"{"level":"ERROR","message":"disk full"}"#, &expected), None);
        assert!(offence(r#"{"level":"ERROR","message":"other"}"#, &expected).is_some());
        assert!(offence("thread 'main' panicked at src/x.rs", &expected).is_some());
    }
}
