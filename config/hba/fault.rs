//! What is wrong with a rule or a map.

use crate::auth::Method;
use crate::hba::rule::Kind;

/// Why a rule, or a line of a map, cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleFault {
    #[error("there is no connection type {0:?}")]
    Kind(String),
    #[error("the line ends before its {0}")]
    Ends(&'static str),
    #[error("there is more than one {0}")]
    Many(&'static str),
    #[error("the list of {0} is empty")]
    Nobody(&'static str),
    #[error("{0:?} asks who is a member of what, which only the server knows")]
    SameRole(String),
    #[error("{0:?} asks who is a member of it, which only the server knows")]
    Member(String),
    #[error("{0:?} is not understood as a regular expression: {1}")]
    Expression(String, String),
    #[error("{0:?} is not an address")]
    Address(String),
    #[error("{0:?} is not a mask for {1}")]
    Mask(String, String),
    #[error("a unix socket has no address")]
    LocalAddress,
    #[error("{0:?} is no method that is spoken here")]
    Method(String),
    #[error("{} does not go with {}", .0.word(), .1.word())]
    Unfit(Method, Kind),
    #[error("{0:?} is not of the form name=value")]
    Pair(String),
    #[error("there is no option {0:?} for {method}", method = .1.word())]
    Option(String, Method),
    #[error("{1:?} is not allowed for {0}")]
    Value(&'static str, String),
    #[error("a certificate is shown on connections of hostssl only")]
    NoCertificate,
    #[error("the line has more than three fields")]
    LongMap,
    #[error("\\1 stands for what a group took, and {0:?} has none")]
    NoGroup(String),
}

impl RuleFault {
    /// Says what would be right.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Kind(_) => Kind::WORDS.join(", "),
            Self::Method(_) => Method::WORDS.join(", "),
            Self::SameRole(_) => "all, sameuser, replication, names, /expressions".to_owned(),
            Self::Member(_) => "all, names, /expressions; in quotes + is part of a name".to_owned(),
            Self::Address(_) => "all, samehost, samenet, 10.0.0.0/8, ::1/128, 10.0.0.0 \
                                 255.0.0.0; names are not looked up"
                .to_owned(),
            Self::Unfit(Method::Peer, _) => "peer for local".to_owned(),
            Self::Unfit(..) | Self::NoCertificate => "with hostssl".to_owned(),
            Self::Option(..) => "map for cert and peer; clientcert and clientname".to_owned(),
            Self::Value("clientcert", _) => "verify-ca, verify-full".to_owned(),
            Self::Value("clientname", _) => "CN, DN".to_owned(),
            Self::Value("clientcert with cert", _) => "verify-full".to_owned(),
            _ => String::new(),
        }
    }
}
