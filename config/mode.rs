use crate::draft::Node;
use crate::setting::Setting;

/// The permissions of a file, the lowest nine bits as `chmod` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// Takes permissions; `None` if other bits than the lowest nine are set.
    pub fn new(bits: u32) -> Option<Self> {
        (bits <= 0o777).then_some(Self(bits))
    }

    /// Gives the bits, for `chmod`.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Setting for FileMode {
    fn allowed() -> String {
        "an octal text from \"0000\" to \"0777\"".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let text = node.text().filter(|text| text.len() <= 5)?;
        let octal = text.strip_prefix("0o").unwrap_or(text);
        u32::from_str_radix(octal, 8).ok().and_then(Self::new)
    }

    fn show(&self) -> String {
        format!("{:04o}", self.0)
    }
}
