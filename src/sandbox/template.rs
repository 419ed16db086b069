use std::path::PathBuf;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::error::Error;
use crate::home::Home;
use crate::tool;

/// A data directory as `initdb` makes it, to be copied.
#[derive(Debug)]
pub(crate) struct Template {
    home: Home,
    account: Account,
}

impl Template {
    pub(crate) async fn make(binaries: &Binaries) -> Result<Self, Error> {
        let account = Account::choose();
        let home = Home::new(account)?;
        let mut initdb = account.command(binaries.tool("initdb")?);
        initdb
            .args(["--no-sync", "--encoding=UTF8", "--locale=C"])
            .args(["--username=postgres", "--auth=trust", "--pgdata"])
            .arg(home.join("data"));
        tool::run(initdb).await?;
        Ok(Self { home, account })
    }

    /// Copies the data directory to a place that does not exist yet.
    pub(crate) async fn copy(&self, to: PathBuf) -> Result<(), Error> {
        let mut copy = self.account.command("cp");
        copy.arg("-a").arg(self.home.join("data")).arg(to);
        tool::run(copy).await.map(drop)
    }
}
