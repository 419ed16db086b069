//! Which user a name of the system, or one in a certificate, may be: `pg_ident.conf`.
//!
//! Source: PostgreSQL documentation, "User Name Maps", and `check_ident_usermap` of hba.c.

use std::fmt;

use crate::fault::Origin;
use crate::hba::fault::RuleFault;
use crate::hba::lines::Line;
use crate::hba::name::{Pattern, UserName};
use crate::hba::token::Token;

/// The lines of a file of maps, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    map: String,
    system: System,
    user: MappedUser,
    origin: Origin,
}

/// The name outside.
#[derive(Clone, Debug, PartialEq, Eq)]
enum System {
    Named(String),
    Fits(Pattern),
}

/// The user inside.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MappedUser {
    /// As in a rule.
    Plain(UserName),
    /// With what the first group took in the place of `\1`.
    Around { before: String, after: String },
}

impl Maps {
    pub(crate) fn push(&mut self, line: Line) -> Result<(), RuleFault> {
        let mut fields = line.fields.into_iter();
        let mut next = |what| {
            let mut tokens = fields.next().ok_or(RuleFault::Ends(what))?.into_iter();
            match (tokens.next(), tokens.next()) {
                (Some(token), None) => Ok(token),
                _ => Err(RuleFault::Many(what)),
            }
        };
        let map = next("map's name")?.text;
        let system = next("name in the system")?;
        let user = next("user")?;
        if fields.next().is_some() {
            return Err(RuleFault::LongMap);
        }
        let system = match Pattern::of(&system) {
            Some(pattern) => System::Fits(pattern?),
            None => System::Named(system.text),
        };
        let user = mapped(&system, &user)?;
        self.0.push(Entry {
            map,
            system,
            user,
            origin: line.origin,
        });
        Ok(())
    }

    /// Gives the lines as texts, by which they can be compared.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Tells whether there is a map of a name.
    pub fn has(&self, map: &str) -> bool {
        self.0.iter().any(|entry| entry.map == map)
    }

    /// Tells whether who has a name in the system may be a user.
    pub fn allow(&self, map: &str, system: &str, user: &str) -> bool {
        let entries = self.0.iter().filter(|entry| entry.map == map);
        entries.into_iter().any(|entry| entry.allows(system, user))
    }
}

fn mapped(system: &System, token: &Token) -> Result<MappedUser, RuleFault> {
    let is_plain = token.text.starts_with('/') || (token.text.starts_with('+') && !token.quoted);
    match (system, token.text.split_once("\\1")) {
        (System::Fits(pattern), Some((before, after))) if !is_plain => {
            if !pattern.has_group() {
                return Err(RuleFault::NoGroup(pattern.to_string()));
            }
            Ok(MappedUser::Around {
                before: before.to_owned(),
                after: after.to_owned(),
            })
        }
        _ => UserName::read(token).map(MappedUser::Plain),
    }
}

impl Entry {
    fn allows(&self, system: &str, user: &str) -> bool {
        match (&self.system, &self.user) {
            (System::Named(name), MappedUser::Plain(inside)) => name == system && inside.fits(user),
            (System::Fits(pattern), MappedUser::Plain(inside)) => {
                pattern.fits(system) && inside.fits(user)
            }
            (System::Fits(pattern), MappedUser::Around { before, after }) => {
                let middle = user.strip_prefix(before.as_str());
                let middle = middle.and_then(|rest| rest.strip_suffix(after.as_str()));
                middle.is_some() && middle == pattern.first_group(system)
            }
            // Without an expression, `\1` is part of the name.
            (System::Named(_), MappedUser::Around { .. }) => false,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.map)?;
        match &self.system {
            System::Named(name) => write!(f, "{name:?} ")?,
            System::Fits(pattern) => write!(f, "{pattern} ")?,
        }
        match &self.user {
            MappedUser::Plain(user) => write!(f, "{user}"),
            MappedUser::Around { before, after } => {
                write!(f, "{:?}", format!("{before}\\1{after}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Maps;
    use crate::fault::Origin;
    use crate::hba::fault::RuleFault;
    use crate::hba::lines::Line;
    use crate::hba::token::fields;

    fn maps(text: &str) -> Result<Maps, RuleFault> {
        let mut maps = Maps::default();
        for line in text.lines() {
            maps.push(Line {
                origin: Origin::Nowhere,
                fields: fields(line).unwrap(),
            })?;
        }
        Ok(maps)
    }

    #[test]
    fn names_are_mapped_as_in_postgres() {
        let maps = maps(
            "staff root postgres\n\
             staff /^(.*)@example\\.com$ \\1\n\
             staff /^(.*)@example\\.com$ \"all\"\n\
             staff /^svc-(.+)$ app_\\1_role\n\
             staff /^(|x)any$ all\n\
             staff op /^op[0-9]+$\n\
             other root alice\n",
        )
        .unwrap();
        for (map, system, user, allowed) in [
            ("staff", "root", "postgres", true),
            ("staff", "root", "alice", false),
            ("other", "root", "alice", true),
            ("none", "root", "alice", false),
            ("staff", "alice@example.com", "alice", true),
            ("staff", "alice@example.com", "bob", false),
            ("staff", "alice@example.org", "alice", false),
            ("staff", "alice@example.com", "all", true),
            ("staff", "svc-web", "app_web_role", true),
            ("staff", "svc-web", "app_web", false),
            ("staff", "svc-", "app__role", false),
            ("staff", "any", "whoever", true),
            ("staff", "op", "op12", true),
            ("staff", "op", "operator", false),
            ("staff", "@example.com", "", true),
        ] {
            assert_eq!(
                maps.allow(map, system, user),
                allowed,
                "{map} {system} {user}"
            );
        }
        assert!(maps.has("other") && !maps.has("none"));
    }

    #[test]
    fn what_the_group_took_is_only_a_name() {
        let maps = maps("m /^(.*)$ \\1").unwrap();
        assert!(!maps.allow("m", "all", "alice"));
        assert!(!maps.allow("m", "/.*", "alice"));
        assert!(maps.allow("m", "all", "all"));
    }

    #[test]
    fn wrong_lines_are_told() {
        for (line, fault) in [
            ("m", RuleFault::Ends("name in the system")),
            ("m a", RuleFault::Ends("user")),
            ("m a b c", RuleFault::LongMap),
            ("m a,b c", RuleFault::Many("name in the system")),
            ("m a +b", RuleFault::Member("+b".into())),
            ("m /a \\1", RuleFault::NoGroup("/a".into())),
        ] {
            assert_eq!(maps(line).unwrap_err(), fault, "{line}");
        }
        let Err(RuleFault::Expression(text, _)) = maps("m /( b") else {
            panic!("an expression that is none");
        };
        assert_eq!(text, "(");
    }
}
