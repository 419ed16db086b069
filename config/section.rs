//! Sections are declared once: the struct, how it is read, and how it is shown come from one list.
//!
//! A setting that is added to a section is thereby read, compared and shown; forgetting one of the
//! three is impossible.

use crate::reader::Reader;
use crate::row::Row;

/// A section of the configuration.
pub(crate) trait Section: Sized {
    /// Reads all settings; `None` if there was a fault, which the reader has then.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// Gives all settings, to be shown and compared, under a path.
    fn rows(&self, path: &str) -> Vec<Row>;
}

/// What must hold between the settings of a section, and between them and the machine.
pub(crate) trait Check {
    /// Finds contradictions and tells the reader of them.
    fn check(&self, _reader: &mut Reader<'_>) {}
}

/// Declares a section, each setting marked with what a change of it takes.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $Name:ident {
            $($(#[$field_meta:meta])* [$effect:ident] $field:ident: $Type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Name {
            $($(#[$field_meta])* pub $field: $Type,)*
        }

        impl $crate::section::Section for $Name {
            fn read(reader: &mut $crate::reader::Reader<'_>) -> Option<Self> {
                // All are read before any is missed, so that all faults are found.
                $(let $field = reader.required::<$Type>(stringify!($field));)*
                Some(Self { $($field: $field?,)* })
            }

            fn rows(&self, path: &str) -> Vec<$crate::row::Row> {
                vec![$($crate::row::Row::plain(
                    format!("{path}.{}", stringify!($field)),
                    $crate::setting::Setting::show(&self.$field),
                    $crate::row::Effect::$effect,
                ),)*]
            }
        }
    };
}

/// Declares the settings that may be set anew for a database or a user, over a section.
macro_rules! overrides {
    (
        $(#[$meta:meta])*
        pub struct $Name:ident over $Section:ident {
            $($(#[$field_meta:meta])* $field:ident: $Type:ty,)*
        }
    ) => {
        $(#[$meta])*
        ///
        /// `None` leaves the setting as the layer below has it.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $Name {
            $($(#[$field_meta])* pub $field: Option<$Type>,)*
        }

        impl $Name {
            /// Lays these settings over a section.
            pub(crate) fn apply(&self, section: &mut $Section) {
                $(if let Some(value) = &self.$field {
                    section.$field = value.clone();
                })*
            }
        }

        impl $crate::section::Section for $Name {
            fn read(reader: &mut $crate::reader::Reader<'_>) -> Option<Self> {
                Some(Self { $($field: reader.optional::<$Type>(stringify!($field)),)* })
            }

            fn rows(&self, path: &str) -> Vec<$crate::row::Row> {
                let mut rows = Vec::new();
                $(if let Some(value) = &self.$field {
                    rows.push($crate::row::Row::plain(
                        format!("{path}.{}", stringify!($field)),
                        $crate::setting::Setting::show(value),
                        $crate::row::Effect::NextConnection,
                    ));
                })*
                rows
            }
        }
    };
}

/// Gives an enum the words it is written with.
macro_rules! words {
    ($Name:ident { $($Variant:ident = $word:literal,)* }) => {
        impl $Name {
            /// The words, in the order of the variants.
            pub(crate) const WORDS: &[&str] = &[$($word),*];

            /// Gives the value that is written so.
            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$Variant),)*
                    _ => None,
                }
            }

            /// Gives the word it is written with.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$Variant => $word,)*
                }
            }
        }

        impl $crate::setting::Setting for $Name {
            fn allowed() -> String {
                Self::WORDS.join(", ")
            }

            fn parse(value: &$crate::draft::Node) -> Option<Self> {
                value.text().and_then(Self::from_word)
            }

            fn show(&self) -> String {
                self.word().to_owned()
            }
        }
    };
}
