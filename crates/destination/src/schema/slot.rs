//! The typed side of a config: the Rust types that stand in a struct, and `config!`.
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;

use crate::wire::Wire;

/// A Rust type that can stand in a config struct.
pub(crate) trait Slot: Sized {
    /// From a checked value; absent is `None`.
    fn read(value: Option<&Json>) -> Option<Self>;
    fn write(&self) -> Option<Json>;
}

impl Slot for String {
    fn read(value: Option<&Json>) -> Option<String> {
        value?.as_str().map(str::to_owned)
    }
    fn write(&self) -> Option<Json> {
        Some(Json::from(self.as_str()))
    }
}

impl Slot for SecretString {
    fn read(value: Option<&Json>) -> Option<SecretString> {
        value?.as_str().map(SecretString::from)
    }
    fn write(&self) -> Option<Json> {
        Some(Json::from(self.expose_secret()))
    }
}

impl Slot for bool {
    fn read(value: Option<&Json>) -> Option<bool> {
        value?.as_bool()
    }
    fn write(&self) -> Option<Json> {
        Some(Json::Bool(*self))
    }
}

impl<T: Wire> Slot for T {
    fn read(value: Option<&Json>) -> Option<T> {
        T::from_wire(value?.as_str()?)
    }
    fn write(&self) -> Option<Json> {
        Some(Json::from(self.wire_name()))
    }
}

impl<T: Slot> Slot for Option<T> {
    fn read(value: Option<&Json>) -> Option<Option<T>> {
        match value {
            None => Some(None),
            Some(_) => T::read(value).map(Some),
        }
    }
    fn write(&self) -> Option<Json> {
        self.as_ref().and_then(T::write)
    }
}

/// Declares a config: the struct, and beside each field its row of the table. `headers` is added.
macro_rules! config {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[doc = $doc:literal])+ pub $field:ident: $type:ty = $row:expr,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// Extra request headers.
            pub headers: $crate::Headers,
        }

        impl $crate::schema::Fields for $name {
            const FIELDS: &'static [$crate::schema::Field] =
                &[$($row.about(concat!($($doc),+))),+];

            fn read(values: &$crate::schema::Values) -> Option<$name> {
                // Rows and struct fields are declared in one order.
                let mut rows = Self::FIELDS.iter();
                Some($name {
                    $($field: $crate::schema::Slot::read(values.get(rows.next()?.name))?,)+
                    headers: $crate::headers::read(values)?,
                })
            }

            fn write(&self) -> $crate::schema::Values {
                let slots = [$($crate::schema::Slot::write(&self.$field)),+];
                let mut values: $crate::schema::Values = Self::FIELDS
                    .iter()
                    .zip(slots)
                    .filter_map(|(row, value)| Some((row.name.to_owned(), value?)))
                    .collect();
                $crate::headers::write(&self.headers, &mut values);
                values
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                use $crate::schema::{Audience, Fields, Schema};
                let shown = Schema::of::<$name>().shown(&self.write(), Audience::Log);
                write!(f, "{} {}", stringify!($name), serde_json::Value::Object(shown))
            }
        }
    };
}
