//! Tokens: the broker's own, and those of further owners, a file each in a folder beside it.
//!
//! Owners share workers fairly, so people who should have a share of their own need a token of their own. A file that
//! is added or deleted counts within a second, without a restart. Whoever has the broker's own token is its administrator.

use crate::data_dir::write_once;
use rand::{TryRng as _, rngs::SysRng};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, Instant, SystemTime},
};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Name of the folder in the data folder.
const FOLDER: &str = "tokens";

/// All tokens that open the broker, by their hashes.
#[derive(Debug)]
pub(crate) struct Tokens {
    own: Known,
    folder: PathBuf,
    others: RwLock<Others>,
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// The broker's own token: everything.
    Administrator,
    /// That of a further owner: work of one's own.
    Owner,
}

/// A token, so that its secret is in memory no longer than needed.
#[derive(Debug, Clone)]
struct Known {
    hash: blake3::Hash,
    /// Of the view token that is made of it.
    view_hash: blake3::Hash,
    owner: Arc<str>,
}

#[derive(Debug, Default)]
struct Others {
    known: Vec<Known>,
    looked_at: Option<Instant>,
    /// When the folder last changed, as far as we saw.
    changed_at: Option<SystemTime>,
}

impl Tokens {
    /// The broker's own token, and those in its data folder.
    pub(crate) fn new(own: &str, data_dir: &Path) -> Self {
        Self {
            own: Known::of(own),
            folder: data_dir.join(FOLDER),
            others: RwLock::default(),
        }
    }

    /// Whose token this is, and what it opens.
    pub(crate) fn holder_of(&self, token: &[u8]) -> Option<(Arc<str>, Rank)> {
        self.known_by(token, |known, hash| known.hash == *hash)
    }

    /// Whose token, or view token, this is: who may look.
    pub(crate) fn viewer_of(&self, token: &[u8]) -> Option<Arc<str>> {
        let holder = self.known_by(token, |known, hash| {
            known.hash == *hash || known.view_hash == *hash
        });
        holder.map(|(owner, _)| owner)
    }

    fn known_by(
        &self,
        token: &[u8],
        is_of: impl Fn(&Known, &blake3::Hash) -> bool,
    ) -> Option<(Arc<str>, Rank)> {
        // Hashes are compared, in constant time, so that the time taken says nothing about the token.
        let hash = blake3::hash(token);
        if is_of(&self.own, &hash) {
            return Some((self.own.owner.clone(), Rank::Administrator));
        }
        self.look_again();
        let others = self.others.read().unwrap_or_else(|lost| lost.into_inner());
        let known = others.known.iter().find(|known| is_of(known, &hash))?;
        Some((known.owner.clone(), Rank::Owner))
    }

    fn look_again(&self) {
        let is_due = |others: &Others| {
            let looked_at = others.looked_at;
            looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY)
        };
        if !is_due(&self.others.read().unwrap_or_else(|lost| lost.into_inner())) {
            return;
        }
        let mut others = self.others.write().unwrap_or_else(|lost| lost.into_inner());
        others.looked_at = Some(Instant::now());
        let changed_at = fs::metadata(&self.folder).and_then(|folder| folder.modified());
        let changed_at = changed_at.ok();
        if changed_at != others.changed_at {
            others.known = read_all(&self.folder);
            others.changed_at = changed_at;
        }
    }
}

impl Known {
    fn of(token: &str) -> Self {
        let name = token.rsplit_once('.').map_or(token, |(name, _)| name);
        Self {
            hash: blake3::hash(token.as_bytes()),
            view_hash: blake3::hash(dewar_proto::view_token(token).as_bytes()),
            owner: name.into(),
        }
    }
}

/// A new token for an owner, in the folder of a broker that runs or not. Gives the file.
///
/// # Errors
/// If the owner has one, or the file cannot be written.
pub fn add_owner(data_dir: &Path, owner: &str) -> io::Result<PathBuf> {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if owner.is_empty() || !owner.chars().all(plain) {
        let problem =
            format!("an owner's name has letters, digits, - and _ only, unlike {owner:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let folder = data_dir.join(FOLDER);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(owner);
    if path.exists() {
        let problem = format!("{} is there already", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
    }
    make(&path, owner)?;
    Ok(path)
}

/// Writes a new token, whole or not at all.
pub(crate) fn make(path: &Path, owner: &str) -> io::Result<String> {
    let mut secret = [0; 24];
    SysRng
        .try_fill_bytes(&mut secret)
        .map_err(io::Error::other)?;
    let token = format!("{owner}.{}", hex(&secret));

    write_once(path, &format!("{token}\n"))?;
    Ok(token)
}

/// The name of the account as that of an owner.
pub(crate) fn account_name() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    let user: String = user
        .chars()
        .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_'))
        .collect();
    if user.is_empty() {
        "dewar".to_owned()
    } else {
        user
    }
}

/// Files that are no tokens are passed over, and said so.
fn read_all(folder: &Path) -> Vec<Known> {
    let mut known = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some() {
            continue;
        }
        let token = fs::read_to_string(&path).unwrap_or_default();
        let token = token.trim();
        if token.parse::<dewar_proto::Token>().is_ok() {
            known.push(Known::of(token));
        } else {
            tracing::warn!(path = %path.display(), "holds no token of the form NAME.SECRET");
        }
    }
    known
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// As if the folder had been looked at long ago.
    fn forget_the_look(tokens: &Tokens) {
        tokens.others.write().unwrap().looked_at = None;
    }

    #[test]
    fn owners_come_and_go_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new("ann.secret", folder.path());
        let holder = |token: &str| {
            let holder = tokens.holder_of(token.as_bytes());
            holder.map(|(owner, rank)| (owner.to_string(), rank))
        };
        let ann = Some(("ann".to_owned(), Rank::Administrator));
        assert_eq!(holder("ann.secret"), ann);
        assert_eq!(holder("ann.other"), None);
        let path = add_owner(folder.path(), "bob").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = fs::read_to_string(&path).unwrap();
        forget_the_look(&tokens);
        let bob = Some(("bob".to_owned(), Rank::Owner));
        assert_eq!(holder(token.trim()), bob);
        fs::remove_file(&path).unwrap();
        forget_the_look(&tokens);
        assert_eq!(holder(token.trim()), None);
        assert_eq!(holder("ann.secret"), ann);
    }

    #[test]
    fn a_view_token_looks_and_is_gone_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new("ann.secret", folder.path());
        let path = add_owner(folder.path(), "bob").unwrap();
        let bob = fs::read_to_string(&path).unwrap();
        let view = dewar_proto::view_token(bob.trim());
        assert_eq!(tokens.viewer_of(view.as_bytes()).as_deref(), Some("bob"));
        assert_eq!(tokens.holder_of(view.as_bytes()), None);
        let viewer = tokens.viewer_of(bob.trim().as_bytes());
        assert_eq!(viewer.as_deref(), Some("bob"));
        fs::remove_file(&path).unwrap();
        forget_the_look(&tokens);
        assert_eq!(tokens.viewer_of(view.as_bytes()), None);
        let own = dewar_proto::view_token("ann.secret");
        assert_eq!(tokens.viewer_of(own.as_bytes()).as_deref(), Some("ann"));
    }

    #[test]
    fn an_owner_has_one_token_and_a_plain_name() {
        let folder = tempfile::tempdir().unwrap();
        add_owner(folder.path(), "bob").unwrap();
        let again = add_owner(folder.path(), "bob").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        for name in ["", "../bob", "bob.x", "b ob"] {
            let refused = add_owner(folder.path(), name).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
