//! Files with secrets, one each: the edge has no database.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gatehouse_types::Secret;

use crate::commands::Failure;
use crate::random;

/// Makes `directory` (mode 0700) and those above it, if they are not there.
pub(crate) fn make_private_directory(directory: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Failure::new(format!("cannot make the directory {}: {error}", directory.display()))
    })
}

/// Writes a file that only we may read; refuses to replace one.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// Where the dialback secret stands.
pub(crate) fn dialback_secret_path(data: &Path) -> PathBuf {
    data.join("dialback.secret")
}

/// Where the token stands that the admin port asks for before it changes anything.
pub(crate) fn admin_token_path(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// The token of the admin port, which only who may read the data directory knows; made at the
/// first call.
pub(crate) fn admin_token(data: &Path) -> Result<Secret<String>, Failure> {
    secret_text(&admin_token_path(data), "remove it to have a new one made")
}

/// The secret that all edges of one deployment share; made at the first call.
pub(crate) fn dialback_secret(data: &Path) -> Result<Secret<Vec<u8>>, Failure> {
    let remedy = "remove it to have a new one made, and copy that to every edge";
    let text = secret_text(&dialback_secret_path(data), remedy)?;
    Ok(Secret::new(text.reveal().clone().into_bytes()))
}

/// Where the secrets stand that seal what SIP partners send back to us.
pub(crate) fn sip_secrets_path(data: &Path) -> PathBuf {
    data.join("sip-tokens.secret")
}

/// The secrets that all edges of one deployment share, one in each line, the newest first; made at
/// the first call. What an older one has sealed is still opened, so they can be replaced while
/// partners talk.
pub(crate) fn sip_secrets(data: &Path) -> Result<Vec<Secret<Vec<u8>>>, Failure> {
    let path = sip_secrets_path(data);
    let remedy =
        "write one of 64 hexadecimal digits in each line, the newest first, the same on every edge";
    let text = secret_text(&path, remedy)?;
    let mut secrets = Vec::new();
    for (number, line) in text.reveal().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if line.len() < SECRET_DIGITS_MIN {
            return Err(Failure::new(format!(
                "{}:{}: too short to be a secret: {remedy}",
                path.display(),
                number + 1
            )));
        }
        secrets.push(Secret::new(line.as_bytes().to_vec()));
    }
    if secrets.len() > gatehouse_edge::SIP_SECRETS_MAX {
        return Err(Failure::new(format!(
            "{} holds {} secrets: keep the newest {}",
            path.display(),
            secrets.len(),
            gatehouse_edge::SIP_SECRETS_MAX
        )));
    }
    Ok(secrets)
}

/// Fewer are no secret.
const SECRET_DIGITS_MIN: usize = 64;

/// 64 hexadecimal digits or more from a file that only we may read.
fn secret_text(path: &Path, remedy: &str) -> Result<Secret<String>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let fresh = random::secret()?;
            let text: String = fresh.reveal().iter().map(|byte| format!("{byte:02x}")).collect();
            write_private(path, &text)?;
            text
        }
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    };
    let text = Secret::new(text.trim().to_owned());
    if text.reveal().len() < SECRET_DIGITS_MIN {
        return Err(Failure::new(format!(
            "{} is too short to be a secret: {remedy}",
            path.display()
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(text: &str) -> Result<Vec<String>, String> {
        let place = tempfile::TempDir::new().unwrap();
        fs::write(sip_secrets_path(place.path()), text).unwrap();
        let found = sip_secrets(place.path()).map_err(|failure| failure.text().to_owned())?;
        Ok(found.iter().map(|one| String::from_utf8(one.reveal().clone()).unwrap()).collect())
    }

    #[test]
    fn the_secrets_of_tokens_stand_in_lines_the_newest_first() {
        let (new, old) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(secrets(&format!("{new}\n\n {old} \n")), Ok(vec![new.clone(), old]));
        let short = secrets(&format!("{new}\nabc\n")).unwrap_err();
        assert!(short.contains("sip-tokens.secret:2: too short"), "{short}");
        assert!(!short.contains("abc"), "a secret must not be told: {short}");
        assert!(secrets("").unwrap_err().contains("too short"));
        let many = format!("{new}\n").repeat(gatehouse_edge::SIP_SECRETS_MAX + 1);
        assert!(secrets(&many).unwrap_err().contains("keep the newest"));
    }

    #[test]
    fn a_secret_is_made_once() {
        let place = tempfile::TempDir::new().unwrap();
        let told = |secrets: &[Secret<Vec<u8>>]| secrets[0].reveal().clone();
        let first = told(&sip_secrets(place.path()).unwrap());
        assert_eq!(told(&sip_secrets(place.path()).unwrap()), first);
    }
}
