use gatehouse_store::Store;
use gatehouse_types::Jid;

use super::Failure;
use crate::cli::{Place, UserCommand};
use crate::display::say;
use crate::passwords;
use crate::setup::Setup;

/// Manages accounts, in the same database that a running appliance uses.
pub(super) async fn user(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { account, place } => {
            let (store, account) = open_for(&place, account).await?;
            let keys = passwords::keys(&passwords::read()?)?;
            store.add_account(&account, &keys).await.map_err(|error| Failure::from(&error))?;
            say(format!("Added {account}."));
        }
        UserCommand::Passwd { account, place } => {
            let (store, account) = open_for(&place, account).await?;
            let keys = passwords::keys(&passwords::read()?)?;
            store.set_keys(&account, &keys).await.map_err(|error| Failure::from(&error))?;
            say(format!("Changed the password of {account}."));
        }
        UserCommand::Remove { account, place } => {
            let (store, account) = open_for(&place, account).await?;
            store.remove_account(&account).await.map_err(|error| Failure::from(&error))?;
            say(format!("Removed {account} and everything that belonged to it."));
        }
        UserCommand::List { place, json } => {
            let store = open(&Setup::read(&place)?).await?;
            let accounts = store.accounts(None).await.map_err(|error| Failure::from(&error))?;
            let names: Vec<String> = accounts.iter().map(ToString::to_string).collect();
            say(if json { serde_json::json!(names).to_string() } else { names.join("\n") });
        }
    }
    Ok(())
}

async fn open_for(place: &Place, account: Jid) -> Result<(Store, Jid), Failure> {
    let setup = Setup::read(place)?;
    if account.local().is_none() || !account.is_bare() {
        return Err(Failure::usage(format!(
            "`{account}` is not an account: write it like alice@{}",
            setup.first_domain()
        )));
    }
    if !setup.settings.domains.contains(account.domain()) {
        let domains: Vec<_> = setup.settings.domains.iter().map(ToString::to_string).collect();
        return Err(Failure::usage(format!(
            "{} is not one of our domains ({}): add it to `domains` in gatehouse.toml, or with --domain",
            account.domain(),
            domains.join(", ")
        )));
    }
    Ok((open(&setup).await?, account))
}

async fn open(setup: &Setup) -> Result<Store, Failure> {
    Store::open(&setup.database()).await.map_err(|error| Failure::from(&error))
}
