//! One rule of who may log in, and by what.

use std::fmt;
use std::net::IpAddr;

use crate::auth::Method;
use crate::draft::{Node, Value};
use crate::fault::{Findings, Origin, Problem};
use crate::hba::address::{Addresses, Network};
use crate::hba::fault::RuleFault;
use crate::hba::lines::{self, Line};
use crate::hba::name::{DatabaseName, UserName};
use crate::hba::token::Token;
use crate::reader::Reader;
use crate::setting::Setting;

/// The connections a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over the unix socket.
    Local,
    /// Over TCP.
    Host,
    /// Over TCP with TLS.
    HostSsl,
    /// Over TCP without TLS.
    HostNoSsl,
    /// Over TCP with GSS encryption, which is not spoken here: none.
    HostGssEnc,
    /// Over TCP without GSS encryption: as `Host`.
    HostNoGssEnc,
}

words! {
    Kind {
        Local = "local",
        Host = "host",
        HostSsl = "hostssl",
        HostNoSsl = "hostnossl",
        HostGssEnc = "hostgssenc",
        HostNoGssEnc = "hostnogssenc",
    }
}

/// What a client's certificate must be, besides the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCert {
    /// Of an authority in `tls.ca`.
    VerifyCa,
    /// And in the user's name, or in one that the map allows.
    VerifyFull,
}

words! { ClientCert { VerifyCa = "verify-ca", VerifyFull = "verify-full", } }

/// Which name in a certificate is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    /// The subject's common name.
    #[default]
    CommonName,
    /// The whole subject, in the notation of RFC 2253.
    DistinguishedName,
}

words! { ClientName { CommonName = "CN", DistinguishedName = "DN", } }

/// What a rule asks for beyond its method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The map from the system's names, or those in certificates, to users.
    pub map: Option<String>,
    /// What the certificate must be; always `VerifyFull` for the method cert.
    pub client_cert: Option<ClientCert>,
    /// Which name of it counts.
    pub client_name: ClientName,
}

/// A rule, as in `pg_hba.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Over what clients come.
    pub kind: Kind,
    /// What they ask for; never empty.
    pub databases: Vec<DatabaseName>,
    /// Who they say they are; never empty.
    pub users: Vec<UserName>,
    /// Where they come from; `None` for `Kind::Local` only.
    pub addresses: Option<Addresses>,
    /// How they prove it.
    pub method: Method,
    /// What else is asked of them.
    pub options: Options,
    /// Where the rule was written.
    pub origin: Origin,
}

/// A client, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The database it asks for.
    pub database: &'a str,
    /// Who it says it is.
    pub user: &'a str,
    /// Over what it comes.
    pub way: Way,
    /// It asks for physical replication, which belongs to no database.
    pub is_physical: bool,
}

/// Over what a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The unix socket.
    Unix,
    /// TCP, from this address.
    Plain(IpAddr),
    /// TCP with TLS, from this address.
    Tls(IpAddr),
}

impl Rule {
    /// Tells whether a client is of those that the rule is for; `own` gives the addresses and
    /// networks of this machine, and is asked only if they matter.
    pub fn fits(&self, visitor: &Visitor<'_>, own: &dyn Fn() -> Vec<Network>) -> bool {
        let address = match (self.kind, visitor.way) {
            (Kind::Local, Way::Unix) => None,
            (Kind::Host | Kind::HostNoGssEnc, Way::Plain(address) | Way::Tls(address))
            | (Kind::HostSsl, Way::Tls(address))
            | (Kind::HostNoSsl, Way::Plain(address)) => Some(address.to_canonical()),
            _ => return false,
        };
        if let (Some(addresses), Some(address)) = (&self.addresses, address)
            && !addresses.fit(address, own)
        {
            return false;
        }
        let database = |name: &DatabaseName| match visitor.is_physical {
            true => *name == DatabaseName::Replication,
            false => name.fits(visitor.database, visitor.user),
        };
        self.databases.iter().any(database) && self.users.iter().any(|name| name.fits(visitor.user))
    }

    /// Understands a line of a file.
    pub(crate) fn of_line(line: Line) -> Result<Self, RuleFault> {
        let mut fields = line.fields.into_iter();
        let kind = one(fields.next(), "connection type")?;
        let kind = Kind::from_word(&kind.text).ok_or(RuleFault::Kind(kind.text))?;
        let databases = fields.next().ok_or(RuleFault::Ends("databases"))?;
        let users = fields.next().ok_or(RuleFault::Ends("users"))?;
        let addresses = match kind {
            Kind::Local => None,
            _ => {
                let address = one(fields.next(), "address")?;
                let mask = || one(fields.next(), "mask").ok().map(|mask| mask.text);
                Some(Addresses::read(&address, mask)?)
            }
        };
        let method = one(fields.next(), "method")?.text;
        let method = match (method.as_str(), kind) {
            // As in Postgres: over a unix socket there is nobody else to ask.
            ("ident", Kind::Local) => Method::Peer,
            (word, _) => Method::from_word(word).ok_or(RuleFault::Method(method))?,
        };
        let pairs = fields
            .flatten()
            .map(|token| match token.text.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(RuleFault::Pair(token.text)),
            });
        let pairs: Vec<_> = pairs.collect::<Result<_, _>>()?;
        Ok(Self {
            kind,
            databases: databases_of(&databases)?,
            users: users_of(&users)?,
            addresses,
            method,
            options: options(kind, method, &pairs)?,
            origin: line.origin,
        })
    }

    /// Understands a table of a TOML file.
    fn of_table(reader: &mut Reader<'_>) -> Option<Self> {
        let kind: Option<Kind> = reader.required("type");
        let databases = names(reader, "databases");
        let users = names(reader, "users");
        let address: Option<String> = reader.optional("address");
        let method: Option<Method> = reader.required("method");
        let mut pairs = Vec::new();
        for key in ["map", "clientcert", "clientname"] {
            let value: Option<String> = reader.optional(key);
            pairs.extend(value.map(|value| (key.to_owned(), value)));
        }
        let databases = told("databases", databases_of(&databases), reader);
        let users = told("users", users_of(&users), reader);
        let (kind, method) = (kind?, method?);
        let addresses = told("address", addresses_of(kind, address.as_deref()), reader);
        let options = told("method", options(kind, method, &pairs), reader);
        Some(Self {
            kind,
            databases: databases?,
            users: users?,
            addresses: addresses?,
            method,
            options: options?,
            origin: reader.origin(""),
        })
    }
}

fn one(field: Option<Vec<Token>>, what: &'static str) -> Result<Token, RuleFault> {
    let mut tokens = field.ok_or(RuleFault::Ends(what))?.into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => Ok(token),
        (None, _) => Err(RuleFault::Ends(what)),
        (Some(_), Some(_)) => Err(RuleFault::Many(what)),
    }
}

fn databases_of(tokens: &[Token]) -> Result<Vec<DatabaseName>, RuleFault> {
    if tokens.is_empty() {
        return Err(RuleFault::Nobody("databases"));
    }
    tokens.iter().map(DatabaseName::read).collect()
}

fn users_of(tokens: &[Token]) -> Result<Vec<UserName>, RuleFault> {
    if tokens.is_empty() {
        return Err(RuleFault::Nobody("users"));
    }
    tokens.iter().map(UserName::read).collect()
}

fn addresses_of(kind: Kind, address: Option<&str>) -> Result<Option<Addresses>, RuleFault> {
    if kind == Kind::Local {
        return match address {
            Some(_) => Err(RuleFault::LocalAddress),
            None => Ok(None),
        };
    }
    let mut words = address.unwrap_or("all").split_ascii_whitespace();
    let first = Token::of(words.next().unwrap_or_default());
    Addresses::read(&first, || words.next().map(str::to_owned)).map(Some)
}

/// Understands the options; they must go with the method, and the method with the connection.
fn options(kind: Kind, method: Method, pairs: &[(String, String)]) -> Result<Options, RuleFault> {
    let mut options = Options::default();
    match (method, kind) {
        (Method::Cert, Kind::HostSsl) => options.client_cert = Some(ClientCert::VerifyFull),
        (Method::Cert, _) => return Err(RuleFault::Unfit(method, kind)),
        (Method::Peer, Kind::Local) => {}
        (Method::Peer, _) => return Err(RuleFault::Unfit(method, kind)),
        _ => {}
    }
    let mut named = None;
    for (name, value) in pairs {
        let value = || value.clone();
        match name.as_str() {
            "map" if matches!(method, Method::Cert | Method::Peer) => options.map = Some(value()),
            "clientcert" | "clientname" if kind != Kind::HostSsl => {
                return Err(RuleFault::NoCertificate);
            }
            "clientcert" => {
                let wanted = ClientCert::from_word(&value());
                let wanted = wanted.ok_or_else(|| RuleFault::Value("clientcert", value()))?;
                if method == Method::Cert && wanted != ClientCert::VerifyFull {
                    return Err(RuleFault::Value("clientcert with cert", value()));
                }
                options.client_cert = Some(wanted);
            }
            "clientname" => {
                let wanted = ClientName::from_word(&value());
                named = Some(wanted.ok_or_else(|| RuleFault::Value("clientname", value()))?);
            }
            _ => return Err(RuleFault::Option(name.clone(), method)),
        }
    }
    if named.is_some() && options.client_cert != Some(ClientCert::VerifyFull) {
        return Err(RuleFault::Option("clientname".to_owned(), method));
    }
    options.client_name = named.unwrap_or_default();
    Ok(options)
}

/// Reads a list of names; without one it is all.
fn names(reader: &mut Reader<'_>, key: &'static str) -> Vec<Token> {
    let list: Option<Vec<String>> = reader.optional(key);
    if !reader.has(key) {
        return vec![Token::of("all")];
    }
    let tokens = list.iter().flatten().map(|name| Token::of(name)).collect();
    let origin = reader.origin(key);
    lines::expand(tokens, &origin, reader.findings())
}

/// Tells the reader of a fault at a key.
fn told<T>(key: &str, read: Result<T, RuleFault>, reader: &mut Reader<'_>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(fault) => {
            let problem = Problem::Contradiction(fault.to_string());
            reader.fault(key, problem, fault.allowed());
            None
        }
    }
}

impl Setting for Rule {
    fn allowed() -> String {
        "tables [[auth.rules]]".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            let problem = Problem::Value(Self::written(node));
            findings.fault(&node.origin, path, problem, Self::allowed());
            return None;
        };
        let mut reader = Reader::at(table, node.origin.clone(), path, findings);
        let rule = Self::of_table(&mut reader);
        reader.finish();
        rule
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Writes the rule as a line of `pg_hba.conf`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(",");
        let databases = list(&mut self.databases.iter().map(ToString::to_string));
        let users = list(&mut self.users.iter().map(ToString::to_string));
        write!(f, "{} {databases} {users}", self.kind.word())?;
        if let Some(addresses) = &self.addresses {
            write!(f, " {addresses}")?;
        }
        write!(f, " {}", self.method.word())?;
        if let Some(map) = &self.options.map {
            write!(f, " map={map}")?;
        }
        if let Some(wanted) = self
            .options
            .client_cert
            .filter(|_| self.method != Method::Cert)
        {
            write!(f, " clientcert={}", wanted.word())?;
        }
        if self.options.client_name == ClientName::DistinguishedName {
            write!(f, " clientname={}", self.options.client_name.word())?;
        }
        Ok(())
    }
}
