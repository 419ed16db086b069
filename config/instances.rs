use crate::draft::Node;
use crate::setting::Setting;

/// How the address of an instance of Aurora's is made of its name, such as
/// `?.c1x2y3.eu-west-1.rds.amazonaws.com:5432`, where `?` is the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePattern(String);

impl InstancePattern {
    /// The text, with a port.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for InstancePattern {
    fn allowed() -> String {
        "an address with `?` in the place of an instance's name, such as \
         \"?.c1x2y3.eu-west-1.rds.amazonaws.com:5432\""
            .to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let text = node.text()?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "{}@,/[]".contains(c);
        if text.matches('?').count() != 1 || text.contains(odd) {
            return None;
        }
        let (host, port) = text.split_once(':').unwrap_or((text, "5432"));
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        host.contains('?').then(|| Self(format!("{host}:{port}")))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}
