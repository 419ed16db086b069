//! Names of instances, and how addresses are made of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::AuroraError;
use crate::host::HostName;

/// What stands for the instance's name in a template, as in the drivers that Amazon makes.
const PLACE: char = '?';

/// The name of an instance. What a server says must not lead us anywhere else than among its like, so it has nothing in it
/// but letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// A name that a server has said.
    ///
    /// # Errors
    /// [`AuroraError::Name`].
    pub fn new(text: &str) -> Result<Self, AuroraError> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if text.is_empty() || text.len() > 63 || !text.bytes().all(valid) {
            return Err(AuroraError::Name(text.chars().take(100).collect()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Name> for HostName {
    fn from(name: &Name) -> Self {
        Self::new(Arc::clone(&name.0))
    }
}

/// How an instance's address is made from its name, such as `?.c1x2y3.eu-west-1.rds.amazonaws.com:5432`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTemplate {
    before: String,
    after: String,
}

/// The text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address with ? once in it, such as ?.abc.eu-west-1.rds.amazonaws.com:5432")]
pub struct InvalidTemplate;

impl HostTemplate {
    /// The address of the instance with this name.
    #[must_use]
    pub fn host(&self, name: &Name) -> HostName {
        let Self { before, after } = self;
        HostName::from(format!("{before}{}{after}", name.0))
    }

    /// The template of the cluster that this name is an endpoint of, its writer's or its readers': such a name stands for
    /// all instances, whose own names differ in their first parts. `None` for any other name, those of instances and of
    /// custom endpoints too, which stand for themselves.
    #[must_use]
    pub fn of_endpoint(name: &str, port: u16) -> Option<Self> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (_, rest) = name.split_once('.')?;
        let zone = rest
            .strip_prefix("cluster-ro-")
            .or_else(|| rest.strip_prefix("cluster-"))
            .filter(|zone| !zone.starts_with("custom-"))?;
        let ours = [".rds.amazonaws.com", ".rds.amazonaws.com.cn"];
        ours.iter().any(|end| zone.ends_with(end)).then(|| Self {
            before: String::new(),
            after: format!(".{zone}:{port}"),
        })
    }
}

impl FromStr for HostTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let (before, after) = text.split_once(PLACE).ok_or(InvalidTemplate)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "{}@?,/".contains(c);
        if before.contains(odd) || after.contains(odd) {
            return Err(InvalidTemplate);
        }
        Ok(Self {
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }
}

impl fmt::Display for HostTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PLACE}{}", self.before, self.after)
    }
}
