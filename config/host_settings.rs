use std::fmt;

use crate::draft::{Node, Value};
use crate::fault::{Findings, Problem};
use crate::host::Host;
use crate::reader::Reader;
use crate::setting::Setting;

/// What is said of one host, be it written or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// Its address, or the name that leads to it.
    pub host: Host,
    /// How much it is read from, compared to others; zero: not at all.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<String>,
}

/// What a host has of which nothing is said.
pub(crate) const USUAL_WEIGHT: u32 = 1;
/// More than this says nothing that less would not.
const MOST: usize = 1000;

/// A weight.
struct Weight(u32);

impl Setting for Weight {
    fn allowed() -> String {
        format!("a number from 0 to {MOST}")
    }

    fn parse(node: &Node) -> Option<Self> {
        let weight = usize::parse(node).filter(|weight| *weight <= MOST)?;
        weight.try_into().ok().map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Setting for HostSettings {
    fn allowed() -> String {
        "{ host = \"db2:5432\", weight = 2, zone = \"b\" }".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        Self::read(node, "", &mut Findings::default())
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            let problem = Problem::Value(node.written());
            findings.fault(&node.origin, path, problem, Self::allowed());
            return None;
        };
        let mut reader = Reader::at(table, node.origin.clone(), path, findings);
        let host = reader.required("host");
        let weight: Option<Weight> = reader.optional("weight");
        let zone: Option<Option<String>> = reader.optional("zone");
        reader.finish();
        Some(Self {
            host: host?,
            weight: weight.map_or(USUAL_WEIGHT, |weight| weight.0),
            zone: zone.flatten(),
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for HostSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weight {}", self.host, self.weight)?;
        match &self.zone {
            Some(zone) => write!(f, " in {zone}"),
            None => Ok(()),
        }
    }
}
