use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::process::{Account, is_root, run_to_end};
use crate::stage::Paths;

/// The `testbed` folder of the repository.
pub(crate) fn testbed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The repository itself.
pub(crate) fn repository() -> PathBuf {
    let testbed = testbed();
    testbed.parent().map(Path::to_owned).unwrap_or(testbed)
}

/// Finds everything that a run needs.
pub(crate) fn find(gatehouse: Option<&Path>) -> Result<Paths, Failure> {
    let testbed = testbed();
    let gatehouse = match gatehouse {
        Some(given) => given.to_owned(),
        None => beside_us()?,
    };
    Ok(Paths { runs: runs(&testbed)?, testbed, gatehouse })
}

/// The binary that was built together with this one.
fn beside_us() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(Failure::io("find", Path::new("testbed")))?;
    Ok(own.with_file_name("gatehouse"))
}

/// `testbed/.run`, or a directory for temporary files if the daemons' own accounts cannot reach it,
/// as in a clone below root's home.
pub(crate) fn runs(testbed: &Path) -> Result<PathBuf, Failure> {
    let near = testbed.join(".run");
    fs::create_dir_all(&near).map_err(Failure::io("make", &near))?;
    if !is_root() || is_reachable(&near)? {
        return Ok(near);
    }
    let far = std::env::temp_dir().join("gatehouse-testbed");
    fs::create_dir_all(&far).map_err(Failure::io("make", &far))?;
    Ok(far)
}

fn is_reachable(directory: &Path) -> Result<bool, Failure> {
    let directory = directory.display().to_string();
    let account = Account::Daemon("prosody");
    let (status, _) = run_to_end(account, Path::new("test"), &["-x", &directory], "")?;
    Ok(status.success())
}
