use std::io::{self, BufRead as _, IsTerminal as _};

use gatehouse_store::StoredKeys;
use gatehouse_types::Secret;
use gatehouse_xmpp::sasl::{ITERATIONS, ScramHash, ScramKeys};

use crate::commands::Failure;
use crate::random;

/// Asks twice at a terminal; reads one line elsewhere.
pub(crate) fn read() -> Result<Secret<String>, Failure> {
    let password = if io::stdin().is_terminal() {
        dialoguer::Password::new()
            .with_prompt("Password")
            .with_confirmation("Again", "They differ; once more")
            .interact()
            .map_err(|error| Failure::new(format!("cannot read the password: {error}")))?
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| {
            Failure::new(format!("cannot read the password from standard input: {error}"))
        })?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    Ok(Secret::new(password))
}

/// What is stored instead of the password.
pub(crate) fn keys(password: &Secret<String>) -> Result<Vec<StoredKeys>, Failure> {
    let mut stored = Vec::new();
    for (hash, mechanism) in
        [(ScramHash::Sha256, "SCRAM-SHA-256"), (ScramHash::Sha1, "SCRAM-SHA-1")]
    {
        let random = random::bytes()?;
        let (salt, _) = random.split_at(16);
        let keys = ScramKeys::derive(hash, password.reveal(), salt, ITERATIONS)
            .map_err(|error| Failure::new(error.to_string()))?;
        stored.push(StoredKeys {
            mechanism: mechanism.to_owned(),
            salt: keys.salt.clone(),
            iterations: keys.iterations,
            stored_key: keys.stored_key.clone(),
            server_key: keys.server_key.clone(),
        });
    }
    Ok(stored)
}
