//! Statements and portals of the extended protocol, as far as commands without parameters need them.
//!
//! Source: PostgreSQL documentation, "Extended Query". The console has no transactions, so portals
//! end at Sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::{BufMut as _, BytesMut};
use pgherd_wire::backend::{self, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::build;
use pgherd_wire::frontend::{Bind, Close, Describe, Parse, Target};
use pgherd_wire::sqlstate;

use crate::console::command::{Command, read};
use crate::console::table::{self, Formats, Row};
use crate::console::{protocol, too_long};

/// How many statements, and how many portals, a client may have.
const HELD_MAX: usize = 64;

/// What a client has prepared and bound.
#[derive(Debug, Default)]
pub struct Extended {
    statements: HashMap<Vec<u8>, Arc<Command>>,
    portals: HashMap<Vec<u8>, Portal>,
}

/// A command that is about to be carried out, or whose rows are being fetched.
#[derive(Debug)]
pub struct Portal {
    /// The command.
    pub command: Arc<Command>,
    /// How the rows are to be written.
    pub formats: Formats,
    /// Once it was carried out, what is left of the rows, and what CommandComplete says.
    pub begun: Option<(IntoIter<Row>, &'static str)>,
}

impl Extended {
    /// Prepares a statement.
    ///
    /// # Errors
    /// What is no command, is more than one, or takes a name or a place that is not free.
    pub fn parse(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), ErrorReport> {
        let parse = Parse::parse(body).map_err(protocol)?;
        let mut commands = read(super::utf8(parse.query)?)?;
        if commands.len() > 1 {
            return Err(ErrorReport::error(
                sqlstate::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let command = commands.pop().unwrap_or(Ok(Command::Empty))?;
        if !parse.name.is_empty() {
            if self.statements.contains_key(parse.name) {
                return Err(ErrorReport::error(
                    sqlstate::DUPLICATE_PREPARED_STATEMENT,
                    format!(
                        "prepared statement \"{}\" already exists",
                        lossy(parse.name)
                    ),
                ));
            }
            crowd(self.statements.len())?;
        }
        self.statements
            .insert(parse.name.to_vec(), Arc::new(command));
        out.extend_from_slice(&backend::PARSE_COMPLETE);
        Ok(())
    }

    /// Makes a portal of a statement.
    ///
    /// # Errors
    /// No such statement, parameters, formats that do not fit, no place or name free.
    pub fn bind(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), ErrorReport> {
        let bind = Bind::parse(body).map_err(protocol)?;
        let command = Arc::clone(self.statement(bind.statement)?);
        if bind.count > 0 {
            return Err(ErrorReport::error(
                sqlstate::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires 0",
                    bind.count,
                    lossy(bind.statement)
                ),
            ));
        }
        let formats = Formats::parse(bind.results, command.columns().len())?;
        if !bind.portal.is_empty() {
            if self.portals.contains_key(bind.portal) {
                return Err(ErrorReport::error(
                    sqlstate::DUPLICATE_CURSOR,
                    format!("cursor \"{}\" already exists", lossy(bind.portal)),
                ));
            }
            crowd(self.portals.len())?;
        }
        self.portals.insert(
            bind.portal.to_vec(),
            Portal {
                command,
                formats,
                begun: None,
            },
        );
        out.extend_from_slice(&backend::BIND_COMPLETE);
        Ok(())
    }

    /// Describes a statement or a portal.
    ///
    /// # Errors
    /// No such one.
    pub fn describe(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), ErrorReport> {
        let describe = Describe::parse(body).map_err(protocol)?;
        let (columns, formats) = match describe.kind {
            Target::Statement => {
                let columns = self.statement(describe.name)?.columns();
                build(out, tag::PARAMETER_DESCRIPTION, |out| out.put_u16(0)).map_err(too_long)?;
                (columns, Formats::default())
            }
            Target::Portal => {
                let portal = self.portal(describe.name)?;
                (portal.command.columns(), portal.formats.clone())
            }
        };
        if columns.is_empty() {
            backend::no_data(out);
            return Ok(());
        }
        table::describe(out, &columns, &formats).map_err(too_long)
    }

    /// Forgets a statement or a portal; one that is not there is no error.
    ///
    /// # Errors
    /// Only for what is no Close.
    pub fn close(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), ErrorReport> {
        let close = Close::parse(body).map_err(protocol)?;
        match close.kind {
            Target::Statement => drop(self.statements.remove(close.name)),
            Target::Portal => drop(self.portals.remove(close.name)),
        }
        out.extend_from_slice(&backend::CLOSE_COMPLETE);
        Ok(())
    }

    /// The portal of this name.
    ///
    /// # Errors
    /// 34000 if there is none.
    pub fn portal(&mut self, name: &[u8]) -> Result<&mut Portal, ErrorReport> {
        self.portals.get_mut(name).ok_or_else(|| {
            ErrorReport::error(
                sqlstate::INVALID_CURSOR_NAME,
                format!("portal \"{}\" does not exist", lossy(name)),
            )
        })
    }

    /// Ends all portals, as the end of a transaction does.
    pub fn sync(&mut self) {
        self.portals = HashMap::new();
    }

    fn statement(&self, name: &[u8]) -> Result<&Arc<Command>, ErrorReport> {
        self.statements.get(name).ok_or_else(|| {
            ErrorReport::error(
                sqlstate::INVALID_SQL_STATEMENT_NAME,
                format!("prepared statement \"{}\" does not exist", lossy(name)),
            )
        })
    }
}

fn crowd(held: usize) -> Result<(), ErrorReport> {
    if held < HELD_MAX {
        return Ok(());
    }
    Err(ErrorReport::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        format!("the console holds at most {HELD_MAX} statements and portals of a client"),
    ))
}

/// The longest part of a name that is told back, in bytes.
const NAME_MAX: usize = 64;

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(NAME_MAX)]).into_owned()
}

#[cfg(test)]
mod tests;
