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
