//! What is linked into every Rust program: it hears of its variables, says its value, calls tools, and tells how it failed.
//!
//! Theory of operation. A constructor (`.init_array`) runs before `main`, whoever wrote that: it reads the variables from the
//! channel, descriptor 3, and leaves word of panics and of the end of the process. A program without a `main` of its own stands
//! in a closure that `run` calls; its last expression goes to `answer!`, which finds by the number of references what there is
//! to say of a type: its value, else what Debug shows, else its name. That takes no trait of the program's.
//!
//! Generic functions are compiled with each program that uses them, so they are small, and what is large is not generic.

mod json;
mod outcome;
mod read;
mod tools;
mod wire;
mod write;

pub use json::{BigInt, Json};
pub use outcome::{run, Thrown};
#[doc(hidden)]
pub use tools::returned;
pub use read::{parse, FromJson, Mismatch, Reader};
pub use tools::{call, display, try_call, ToolError};
pub use write::{json, ToJson, Writer};

#[doc(hidden)]
pub mod hidden {
    pub use crate::outcome::{fine, tests, AsDebug, AsFailure, AsName, AsValue, Seen};
    pub use crate::wire::{variable, variables};

    /// Named by programs with a `main` of their own, so that the linker takes this library in.
    pub fn linked() {}
}

/// Say the value of the program's last expression.
#[doc(hidden)]
#[macro_export]
macro_rules! answer {
    ($value:expr) => {
        match &$value {
            value => {
                use $crate::hidden::{AsDebug as _, AsFailure as _, AsName as _, AsValue as _};
                (&&&&$crate::hidden::Seen(value)).say()
            }
        }
    };
}

/// Call a tool of the host's: `tool!("name", 1, "two", option = 3)` gives `Result<Json, ToolError>`.
#[macro_export]
macro_rules! tool {
    ($name:expr) => { $crate::call($name, &[], &[]) };
    ($name:expr, $($option:ident = $given:expr),+ $(,)?) => {
        $crate::call($name, &[], &[$((stringify!($option), &$given as &dyn $crate::ToJson)),+])
    };
    ($name:expr, $($value:expr),+ $(,)?) => { $crate::call($name, &[$(&$value as &dyn $crate::ToJson),+], &[]) };
}
