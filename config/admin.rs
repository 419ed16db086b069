use crate::reader::Reader;
use crate::section::Check;

section! {
    /// The console: virtual databases that speak SHOW tables and administrative verbs.
    pub struct Admin {
        /// The names under which the console is reached; they hide databases of the same name.
        [NextConnection] databases: Vec<String>,
        /// Users who may read and command.
        [NextConnection] admins: Vec<String>,
        /// Users who may only read.
        [NextConnection] readers: Vec<String>,
    }
}

/// What a user may do on the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May not log in to the console.
    #[default]
    None,
    /// May read.
    Reader,
    /// May read and command.
    Admin,
}

words! { Role { None = "none", Reader = "reader", Admin = "admin", } }

impl Check for Admin {
    fn check(&self, reader: &mut Reader<'_>) {
        for name in self
            .readers
            .iter()
            .filter(|name| self.admins.contains(name))
        {
            let problem = format!("{name:?} is an admin too");
            reader.contradiction("readers", problem, "each user in one list");
        }
    }
}
