//! Closed sets of names as they are spelled on the wire.

/// A closed set of names. Declared with `wire_enum!`.
pub(crate) trait Wire: Copy + 'static {
    /// The canonical names, in the order of the contract.
    const NAMES: &'static [&'static str];
    fn wire_name(self) -> &'static str;
    fn from_wire(name: &str) -> Option<Self>;
}

/// Declares an enum with its wire names: `Variant = "name" | "input alias"`.
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $wire:literal $(| $alias:literal)*,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: [$name; [$($wire),+].len()] = [$($name::$variant),+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $wire),+ }
            }

            /// Reads a wire name, or an alias accepted on input.
            pub fn parse(name: &str) -> Option<$name> {
                match name {
                    $($wire $(| $alias)* => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl crate::wire::Wire for $name {
            const NAMES: &'static [&'static str] = &[$($wire),+];
            fn wire_name(self) -> &'static str { self.as_str() }
            fn from_wire(name: &str) -> Option<$name> { $name::parse(name) }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
