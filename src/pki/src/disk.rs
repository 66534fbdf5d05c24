use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use tracing::warn;

use crate::PkiError;

/// Largest file that is read, in bytes. A chain has a few thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Who may read a file that we write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Readers {
    /// Mode 0644.
    Everyone,
    /// Mode 0600.
    Owner,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Everyone => 0o644,
            Self::Owner => 0o600,
        }
    }
}

/// Makes `directory` with mode 0700, and those above it, unless it is there.
pub(crate) fn make_directory(directory: &Path) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("make the directory", directory))
}

/// The text in `path`; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    if size > FILE_BYTES_MAX {
        let error = std::io::Error::new(ErrorKind::FileTooLarge, "it has more than one megabyte");
        return Err(failed("read", path)(error));
    }
    fs::read_to_string(path).map(Some).map_err(failed("read", path))
}

/// As [`read`], and says so if more than its owner may read the file.
pub(crate) fn read_secret(path: &Path) -> Result<Option<String>, PkiError> {
    let text = read(path)?;
    if text.is_some() {
        let mode = fs::metadata(path).map_err(failed("read", path))?.permissions().mode();
        if mode & 0o077 != 0 {
            let path = path.display();
            warn!(%path, "others may read this private key: run `chmod 600` on it");
        }
    }
    Ok(text)
}

/// Writes `path` so that at every moment it is the old file or the new one, whole.
pub(crate) fn write(path: &Path, content: &str, readers: Readers) -> Result<(), PkiError> {
    let fresh = temporary(path);
    let written = write_new(&fresh, content, readers)
        .and_then(|()| fs::rename(&fresh, path))
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        // The first error is the one to tell; a left-over is removed by the next write.
        let _ = fs::remove_file(&fresh);
    }
    written.map_err(failed("write", path))
}

fn write_new(path: &Path, content: &str, readers: Readers) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(readers.mode()).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn temporary(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { action, path, source }
}
