//! Names of the system's accounts, from wherever it has them: files, LDAP, SSSD (`nsswitch.conf`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Uid, User};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::facts::aside;

/// Lookups under way at once. A directory that hangs holds a thread for each, and must not get them all.
const LOOKUPS: usize = 8;
/// How long a client waits for its name, also for a place to ask for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where accounts are looked up.
#[derive(Debug)]
pub struct Accounts {
    places: Arc<Semaphore>,
}

/// Why an account has no name.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is none of this number.
    #[error("there is no account of number {0}")]
    Unknown(u32),
    /// The system could not say.
    #[error("cannot look up the account of number {uid}: {source}")]
    System {
        /// Its number.
        uid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The system has not said anything in time.
    #[error("looking up the account of number {uid} took longer than {patience:?}")]
    Late {
        /// Its number.
        uid: u32,
        /// The limit.
        patience: Duration,
    },
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Accounts {
    /// The name of the account with a number, looked up on a thread where nobody's traffic waits for it.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn name(&self, uid: u32) -> Result<String, AccountError> {
        let ask = move || User::from_uid(Uid::from_raw(uid)).map(|found| found.map(|it| it.name));
        self.look_up(uid, PATIENCE, ask).await
    }

    async fn look_up(
        &self,
        uid: u32,
        patience: Duration,
        ask: impl FnOnce() -> Result<Option<String>, Errno> + Send + 'static,
    ) -> Result<String, AccountError> {
        let answer = async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            aside(move || {
                let answer = ask();
                // Whoever has given up waiting has not ended the lookup.
                drop(place);
                answer
            })
            .await
        };
        match timeout(patience, answer).await {
            Ok(Ok(Some(name))) => Ok(name),
            Ok(Ok(None)) => Err(AccountError::Unknown(uid)),
            Ok(Err(errno)) => Err(AccountError::System {
                uid,
                source: errno.into(),
            }),
            Err(_) => Err(AccountError::Late { uid, patience }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::errno::Errno;

    use super::{AccountError, Accounts, LOOKUPS};

    #[tokio::test]
    async fn an_account_has_the_name_that_the_system_gives_it() {
        let accounts = Accounts::default();
        assert_eq!(accounts.name(0).await.expect("it exists"), "root");
        let nobody = accounts.name(4_000_000_001).await;
        assert!(
            matches!(nobody, Err(AccountError::Unknown(4_000_000_001))),
            "{nobody:?}"
        );
        let patience = Duration::from_secs(10);
        let failed = accounts.look_up(1, patience, || Err(Errno::EIO)).await;
        assert!(
            matches!(failed, Err(AccountError::System { .. })),
            "{failed:?}"
        );
    }

    #[tokio::test]
    async fn a_directory_that_hangs_holds_no_more_threads_than_it_may() {
        let accounts = Accounts::default();
        let (long, short) = (Duration::from_secs(10), Duration::from_millis(1));
        let mut hung = Vec::new();
        for _ in 0..LOOKUPS {
            let (release, released) = mpsc::channel::<()>();
            hung.push(release);
            let late = accounts.look_up(1, short, move || {
                let _ = released.recv();
                Ok(None)
            });
            let late = late.await;
            assert!(matches!(late, Err(AccountError::Late { .. })), "{late:?}");
        }
        let further = accounts.look_up(1, short, || Ok(Some("me".to_owned())));
        let further = further.await;
        assert!(
            matches!(further, Err(AccountError::Late { .. })),
            "{further:?}"
        );
        drop(hung);
        let after = accounts.look_up(1, long, || Ok(Some("me".to_owned())));
        assert_eq!(after.await.expect("there is room again"), "me");
    }
}
