//! Where things are if nobody says otherwise, and what this machine is called.

use etcetera::{BaseStrategy as _, HomeDirError};
use std::{env, path::PathBuf};

/// The broker's data folder: what systemd gives it, else `dewar/broker` among the account's state.
///
/// # Errors
/// If the account has no home folder.
pub fn broker_data_dir() -> Result<PathBuf, HomeDirError> {
    if let Some(folder) = systemd_folder("STATE_DIRECTORY") {
        return Ok(folder);
    }
    let account = etcetera::choose_base_strategy()?;
    let state = account.state_dir().unwrap_or_else(|| account.data_dir());
    Ok(state.join("dewar").join("broker"))
}

/// A worker's cache folder: what systemd gives it, else `dewar/worker` among the account's caches.
///
/// # Errors
/// If the account has no home folder.
pub fn worker_cache_dir() -> Result<PathBuf, HomeDirError> {
    if let Some(folder) = systemd_folder("CACHE_DIRECTORY") {
        return Ok(folder);
    }
    let cache = etcetera::choose_base_strategy()?.cache_dir();
    Ok(cache.join("dewar").join("worker"))
}

/// Where a program's configuration file is looked for.
pub(crate) fn config_file(program: &str) -> Option<PathBuf> {
    let config = etcetera::choose_base_strategy().ok()?.config_dir();
    Some(config.join("dewar").join(format!("{program}.toml")))
}

/// This machine's name in its network.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// systemd lists a unit's folders with colons between them; ours ask for one.
fn systemd_folder(variable: &str) -> Option<PathBuf> {
    let folders = env::var_os(variable)?;
    env::split_paths(&folders)
        .next()
        .filter(|folder| folder.is_absolute())
}
