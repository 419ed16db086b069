//! Sections are declared once: the struct, how it is read, and how it is shown come from one list.
//!
//! A setting that is added to a section is thereby read, diffed and shown; forgetting one of the
//! three is impossible.

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
    };
}
