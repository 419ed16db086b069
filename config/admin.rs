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
