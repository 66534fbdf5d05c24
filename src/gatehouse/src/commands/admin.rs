//! The admin port of the running appliance, as the commands ask it.

use std::fs;

use gatehouse_types::Secret;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::files;
use crate::setup::Setup;

/// Where the appliance of `setup` answers.
pub(super) struct Admin<'a> {
    setup: &'a Setup,
}

impl<'a> Admin<'a> {
    pub(super) fn of(setup: &'a Setup) -> Self {
        Self { setup }
    }

    /// What it shows at `path`, as JSON.
    pub(super) fn get(&self, path: &str) -> Result<serde_json::Value, Failure> {
        let url = self.url(path);
        let read = || ureq::get(&url).call()?.body_mut().read_to_string();
        parse(&url, &read().map_err(|error| silent(&url, &error))?)
    }

    /// Has it do something, with the token that only who may read the data directory has.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Failure> {
        let (url, token) = (self.url(path), self.token()?);
        let body = serde_json::to_string(body).map_err(|error| Failure::from(&error))?;
        let send = || {
            ureq::post(&url)
                .header("Authorization", format!("Bearer {}", token.reveal()))
                .send(body.as_str())?
                .body_mut()
                .read_to_string()
        };
        let text = send().map_err(|error| match error {
            ureq::Error::StatusCode(401) => Failure::new(format!(
                "the Gatehouse at {url} has another token than {}: name its data directory with --data",
                files::admin_token_path(&self.setup.settings.data).display()
            )),
            error => silent(&url, &error),
        })?;
        parse(&url, &text)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.setup.settings.listen.admin)
    }

    fn token(&self) -> Result<Secret<String>, Failure> {
        let path = files::admin_token_path(&self.setup.settings.data);
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::new(format!(
                "cannot read {}: {error}. The running appliance has made it; name its data directory with --data, and be the user it runs as",
                path.display()
            ))
        })?;
        Ok(Secret::new(text.trim().to_owned()))
    }
}

fn parse<T: DeserializeOwned>(url: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("{url} does not answer like a Gatehouse: {error}")))
}

fn silent(url: &str, error: &ureq::Error) -> Failure {
    Failure::new(format!(
        "no Gatehouse answers at {url} ({error}): start it with `gatehouse run`, or name its settings with --config"
    ))
}
